-- Certificate revocation lists: what an authority has taken back is refused, by servers that
-- ask their clients for certificates, and by clients.
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local tls = require "skynet.tls"
local certs = require "certs"
local rt = require "rt"
local test = require "testlib"
local watchdog = require "watchdog"

local REVOKED = "certificate verify failed: certificate revoked"

local function pem(name)
	return certs.path(name)
end

-- Options of a side that shows the certificate of that name.
local function side(name, more)
	local opts = { ca = pem "ca.pem", cert = name and pem(name .. ".pem"), key = name and pem(name .. ".key") }
	for k, v in pairs(more or {}) do
		opts[k] = v
	end
	return opts
end

-- What the server and the client say of a connection between those contexts: "ok", or what is
-- wrong. Further results: the client's session, whether it was a resumed one.
local function meet(server, client, session)
	local ends, why
	local id, _, port = socket.listen("127.0.0.1", 0)
	socket.start(id, function(fd)
		local c, err = tls.accept(fd, server)
		ends = c or false
		why = err
		if c then
			c:write "hello"
		end
	end)
	local c, err = tls.connect("localhost", port, { context = client, session = session, server_name = "localhost" })
	local ticket, resumed
	if c then
		local data, _, reason = c:read(5)
		err = data and "ok" or reason
		ticket, resumed = c:session(), c:resumed()
		c:close()
	end
	test.wait_for(function() return ends ~= nil end)
	if ends then
		ends:close()
	end
	socket.close(id)
	return ends and "ok" or why, err, ticket, resumed
end

local function server(more)
	return tls.context(side("server", more))
end

test.case("a server refuses clients whose certificate was taken back", function()
	for _, crl in ipairs { pem "ca.crl", certs.text "ca.crl", certs.text "sub.crl" .. certs.text "ca.crl" } do
		local ctx = server { client_auth = "required", crl = crl }
		test.eq(meet(ctx, tls.context(side "client")), "ok")
		test.match((meet(ctx, tls.context(side "revoked"))), REVOKED)
		test.match((meet(ctx, tls.context(side()))), "did not return a certificate")
	end
	-- Without a list nobody knows; where none is asked for, none is looked at.
	test.eq(meet(server { client_auth = "required" }, tls.context(side "revoked")), "ok")
	local optional = server { client_auth = "optional", crl = pem "ca.crl" }
	test.eq(meet(optional, tls.context(side())), "ok")
	test.match((meet(optional, tls.context(side "revoked"))), REVOKED)
	test.eq(meet(server { crl = pem "ca.crl" }, tls.context(side "revoked")), "ok")
end)

test.case("a client refuses a server whose certificate was taken back", function()
	local bad = tls.context(side "revoked-server")
	local careful = tls.context(side(nil, { crl = pem "ca.crl" }))
	test.eq(select(2, meet(bad, tls.context(side()))), "ok")
	test.match(select(2, meet(bad, careful)), REVOKED)
	test.eq(select(2, meet(server(), careful)), "ok")
	-- What the system trusts is known as well.
	local system = tls.context { crl = pem "ca.crl" }
	test.match(select(2, meet(server(), system)), "certificate verify failed: ")
end)

test.case("an authority without a list is refused, with what is missing", function()
	local ctx = server { client_auth = "required", crl = pem "other.crl" }
	test.match((meet(ctx, tls.context(side "client"))), "unable to get certificate CRL; crl has no list of its authority")
	-- A list of somebody else, who has the authority's name and not its key, is none.
	local forged = tls.context(side(nil, { crl = pem "sub.crl" }))
	test.match(select(2, meet(server(), forged)), "unable to get certificate CRL; crl has no list")
end)

test.case("crl_all looks at the authorities in between, too", function()
	local deep = tls.context(side "deep")
	local function ask(crl, all)
		return (meet(server { client_auth = "required", crl = crl, crl_all = all }, deep))
	end
	test.eq(ask(pem "all.crl"), "ok")
	test.match(ask(pem "all.crl", true), REVOKED)
	test.eq(ask(certs.text "ca.crl" .. certs.text "sub.crl", true), "ok")
	test.match(ask(pem "sub.crl", true), "unable to get certificate CRL")
	test.match(ask(pem "ca.crl"), "unable to get certificate CRL")
end)

test.case("lists that are missing, broken, too old or too early are told when they are given", function()
	for crl, text in pairs {
		["/no/such.crl"] = "tls: can't use the crl /no/such.crl: can't load the revocation lists, error:%d+ "
			.. "%(No such file or directory",
		[pem "ca.pem"] = "no revocation list, which begins with %-+BEGIN X509 CRL%-+$",
		[certs.text "ca.pem"] = "can't use the crl given as text: no revocation list",
		[certs.text("ca.crl"):gsub("\n....", "\nAAAA", 3)] = "can't load the revocation lists, error:",
		[certs.text("ca.crl") .. "-----BEGIN X509 CRL-----\n!\n"] = "can't load the revocation lists, error:",
		[pem "old.crl"] = "the revocation list of /CN=ca has expired on Feb  1 00:00:00 2020 GMT: get a new one$",
		[certs.text "sub.crl" .. certs.text "old.crl"] = "the revocation list of /CN=ca has expired on",
		[pem "early.crl"] = "the revocation list of /CN=ca holds from Jan  1 00:00:00 2040 GMT on$",
	} do
		local ok, err = pcall(tls.context, side(nil, { crl = crl }))
		test.eq(ok, false)
		test.match(err, text)
	end
	test.err(function() tls.context(side(nil, { crl_all = true })) end, "tls option 'crl_all' needs 'crl'")
	test.err(function() tls.context { crl = pem "ca.crl", verify = false } end, "of no use with 'verify = false'")
	test.err(function() tls.context(side(nil, { crl = {} })) end, "tls option 'crl' must be a string, got a table")
	test.err(function()
		local ctx = require "ltls.c".newctx()
		ctx:set_crl(pem "ca.crl")
		ctx:set_ca(pem "ca.pem")
	end, "name the authorities (set_ca) before their revocation lists (set_crl)")
end)

test.case("a host has lists of its own", function()
	local ctx = server {
		client_auth = "required",
		hosts = { localhost = side("server", { client_auth = "required", crl = pem "ca.crl" }) },
	}
	test.match((meet(ctx, tls.context(side "revoked"))), REVOKED)
	test.eq(meet(ctx, tls.context(side "client")), "ok")
end)

test.case("who was taken back does not come in by an earlier session", function()
	for _, version in ipairs { "1.2", "1.3" } do
		local keys = ("k"):rep(80)
		local before = server { client_auth = "required", ticket_keys = keys, max_version = version }
		local after = server { client_auth = "required", ticket_keys = keys, max_version = version, crl = pem "ca.crl" }
		local mallory, alice = tls.context(side "revoked"), tls.context(side "client")
		local _, _, ticket = meet(before, mallory)
		local said, _, _, resumed = meet(before, mallory, ticket)
		test.eq({ said, resumed }, { "ok", true })
		test.match((meet(after, mallory, ticket)), REVOKED)
		-- With the same lists it goes on to work.
		_, _, ticket = meet(after, alice)
		local twin = server { client_auth = "required", ticket_keys = keys, max_version = version, crl = pem "ca.crl" }
		said, _, _, resumed = meet(twin, alice, ticket)
		test.eq({ said, resumed }, { "ok", true })
	end
end)

test.case("a client does not resume with a server that was taken back", function()
	local bad, careful = tls.context(side "revoked-server"), tls.context(side(nil, { crl = pem "ca.crl" }))
	local _, said, ticket = meet(bad, tls.context(side()))
	test.eq(said, "ok")
	test.match(select(2, meet(bad, careful, ticket)), REVOKED)
	local good = server()
	_, _, ticket = meet(good, careful)
	test.eq(select(4, meet(good, careful, ticket)), true)
end)

test.case("a gate takes new lists when it is opened again, and keeps its connections", function()
	local function options(crl)
		return side("server", { client_auth = "required", crl = crl })
	end
	local gate, port = watchdog.open("gate", { tls = options(certs.text "sub.crl" .. certs.text "ca.crl") })
	local function join(name)
		return tls.connect("localhost", port, side(name))
	end
	local alice = assert(join "client")
	local fd = watchdog.expect "open"[2]
	skynet.call(gate, "lua", "accept", fd)
	local mark = rt.mark()
	local mallory = join "revoked"
	rt.logged("TLS handshake with 127.0.0.1:%d+ failed: .*" .. REVOKED, mark)
	if mallory then
		mallory:close()
	end
	skynet.call(gate, "lua", "close")
	skynet.call(gate, "lua", "open", { address = "127.0.0.1", port = 0, tls = options(pem "all.crl") })
	alice:write(watchdog.frame "still here")
	test.eq(watchdog.expect "data", { "data", fd, "still here", n = 3 })
	alice:close()
	skynet.kill(gate)
end)

test.case("a server of HTTP takes new lists while it runs", function()
	local server_of = require "http.server"
	local httpc = require "http.httpc"
	local s = server_of.listen("127.0.0.1", 0, function(_, res) res:send(200, "fine") end,
		{ tls = side("server", { client_auth = "required" }) })
	local function get(name)
		local res, err = httpc.fetch("https://localhost:" .. s.port, { tls = side(name), keepalive = false })
		return res and res.body or err
	end
	test.eq(get "revoked", "fine")
	s:reload_tls(side("server", { client_auth = "required", crl = pem "ca.crl" }))
	test.ok(get "revoked" ~= "fine")
	test.eq(get "client", "fine")
	test.err(function() s:reload_tls(side("server", { crl = "/none" })) end, "can't use the crl /none")
	test.eq(get "client", "fine")
	s:close()
	local plain = server_of.new(print)
	test.err(function() plain:reload_tls(side "server") end, "the server has no TLS")
end)

watchdog.run(function()
	certs.make()
	test.case("(clean-up)", certs.remove)
end)
