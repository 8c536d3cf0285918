-- skynet.tlscontext: contexts of ltls.c from a table of options, for skynet.tls and for
-- gates, which cannot live beside skynet.socket. Owns nothing.

require "ltls.init.c".constructor()
local ltls = require "ltls.c"
local hint = require "skynet.options".hint
local readfile = require "skynet.readfile"

---@class skynet.tlscontext
local tlscontext = {}

---@class skynet.tls.options
---@field cert string? PEM file, or PEM text: own certificate and its chain
---@field key string? PEM file or text: its private key
---@field password string? of the key
---@field ca string? PEM file or text: trust these instead of the system's
---@field capath string? folder of trusted certificates, made by `openssl rehash`
---@field crl string? PEM file or text: what the authorities have taken back; of each there must
---be a list. Servers: with client_auth
---@field crl_all boolean? also look at the authorities between the peer and the trusted ones
---@field verify boolean? clients: false accepts any certificate; default true
---@field client_auth "required"|"optional"|"none"|nil servers: the client's certificate
---@field ciphers string? OpenSSL's names, for TLS 1.2 and 1.3
---@field min_version "1.2"|"1.3"|nil default "1.2"
---@field max_version "1.2"|"1.3"|nil default "1.3"
---@field alpn string[]? application protocols by preference
---@field hosts table<string, skynet.tls.options|userdata>? servers: other certificates by name
---@field refuse_unknown_host boolean? servers: end connections for names not in `hosts`
---@field ticket_keys string? 80 secret bytes, shared by services that resume each other's sessions

local function is_pem(text)
	return text:find("-----BEGIN ", 1, true) ~= nil
end

-- What is in a PEM file, or nil: it is missing, which OpenSSL tells best. It would take a
-- file that breaks off, because the system can't read on, for one that ends there.
local function read(file)
	local text, why, is_missing = readfile(file)
	if not text and not is_missing then
		error(string.format("tls: can't read %s: %s", file, why), 0)
	end
	return text
end

local function set_certificate(ctx, opts)
	if opts.cert == nil and opts.key == nil then
		return
	end
	local cert = opts.cert or error("tls option 'key' needs 'cert'", 0)
	local key = opts.key or error("tls option 'cert' needs 'key'", 0)
	if is_pem(cert) ~= is_pem(key) then
		error("tls options 'cert' and 'key' must both be files, or both be PEM texts", 0)
	end
	local from_text = is_pem(cert)
	if not from_text then
		read(cert)
	end
	local set = from_text and ctx.set_cert_pem or ctx.set_cert
	local ok, why = pcall(set, ctx, cert, key, opts.password)
	if not ok then
		error(string.format("tls: can't use the certificate %s with the key %s: %s",
			from_text and "given as text" or cert, from_text and "given as text" or key, why), 0)
	end
end

local function set_revocation(ctx, opts)
	local crl = opts.crl
	if not crl then
		if opts.crl_all then
			error("tls option 'crl_all' needs 'crl'", 0)
		end
		return
	elseif opts.verify == false then
		error("tls option 'crl' is of no use with 'verify = false'", 0)
	end
	local from_text = is_pem(crl)
	local text = from_text and crl or read(crl)
	local ok, why = pcall(text and ctx.set_crl_pem or ctx.set_crl, ctx, text or crl, opts.crl_all)
	if not ok then
		error(string.format("tls: can't use the crl %s: %s", from_text and "given as text" or crl, why), 0)
	end
end

local function set_trust(ctx, opts)
	if opts.ca then
		local text = is_pem(opts.ca) and opts.ca or read(opts.ca)
		if text then
			ctx:set_ca_pem(text)
		else
			ctx:set_ca(opts.ca)
		end
	end
	if opts.capath then
		ctx:set_ca(nil, opts.capath)
	end
	set_revocation(ctx, opts)
	ctx:set_verify(opts.verify == false and "none" or "always")
	if opts.client_auth then
		ctx:set_client_auth(opts.client_auth)
	end
end

local function set_hosts(ctx, opts)
	for name, host in pairs(opts.hosts or {}) do
		ctx:add_host(name, type(host) == "table" and tlscontext.new(host) or host)
	end
	if opts.refuse_unknown_host then
		ctx:add_host(nil)
	end
end

-- The type of each option of a context.
local OPTIONS = {
	cert = "string", key = "string", password = "string", ca = "string", capath = "string",
	crl = "string", crl_all = "boolean",
	verify = "boolean", client_auth = "string", ciphers = "string", min_version = "string",
	max_version = "string", alpn = "table", hosts = "table", refuse_unknown_host = "boolean",
	ticket_keys = "string",
}

---Raises unless the keys are options of a context or in `also`, and of the right type.
---@param opts table
---@param also table<string, string>
function tlscontext.check(opts, also)
	for name, value in pairs(opts) do
		local want = OPTIONS[name] or also[name]
		if not want then
			error(string.format("unknown tls option '%s'%s", name, hint(name, OPTIONS, also)), 0)
		elseif type(value) ~= want then
			error(string.format("tls option '%s' must be a %s, got a %s", name, want,
				type(value)), 0)
		end
	end
end

---Make a context: what connections have in common. It costs milliseconds and some
---memory; make one and use it for all. Raises when an option is wrong. Does not yield.
---@param opts skynet.tls.options?
---@return userdata
function tlscontext.new(opts)
	opts = opts or {}
	if type(opts) ~= "table" then
		error("the options of a tls context are a table, not a " .. type(opts), 2)
	end
	tlscontext.check(opts, {})
	local ctx = ltls.newctx()
	set_certificate(ctx, opts)
	set_trust(ctx, opts)
	if opts.ciphers then
		ctx:set_ciphers(opts.ciphers)
	end
	if opts.min_version or opts.max_version then
		ctx:set_versions(opts.min_version or "1.2", opts.max_version)
	end
	if opts.alpn then
		ctx:set_alpn(opts.alpn)
	end
	if opts.ticket_keys then
		ctx:set_ticket_keys(opts.ticket_keys)
	end
	set_hosts(ctx, opts)
	return ctx
end

return tlscontext
