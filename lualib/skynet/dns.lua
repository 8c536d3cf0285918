-- skynet.dns: addresses of host names, asked from name servers without blocking a worker.
--
-- Owns the cache of answers and the queries under way. Equal queries are made once; at
-- most MAX_QUERIES are under way. Both kinds of answers are cached, addresses and their
-- absence, for as long as the servers say. An answer that is too old is used when no
-- better one can be had, which is logged and told by a third result.

local skynet = require "skynet"
local socket = require "skynet.socket"
local dnsconfig = require "skynet.dnsconfig"
local dnsquery = require "skynet.dnsquery"
local notice = require "skynet.notice"

local dns = {
	---Files of the system; nil: none.
	DEFAULT_HOSTS = "/etc/hosts",
	DEFAULT_RESOLV_CONF = "/etc/resolv.conf",
	---Names in the cache at most.
	CACHE_SIZE = 4096,
}

local TYPE = { A = 1, AAAA = 28 }
local DEFAULT_PORT = 53
local MAX_QUERIES = 256
-- Log lines of a kind in a second.
local MAX_LINES = 100
-- Seconds. An answer is not kept longer, nor its absence.
local MAX_TTL = 24 * 3600
local MAX_NEGATIVE_TTL = 900
-- An answer may be used so long after its time, and is then not asked for again so long
-- when no server answers (RFC 8767).
local MAX_STALE = 24 * 3600
local STALE_RETRY = 30

---@class skynet.dns.entry
---@field addresses string[]? nil: known to have none
---@field why string? of an absence
---@field expires integer 1/100 s
---@field recheck integer? a stale answer is not asked for again until then

---@type table<string, skynet.dns.entry>
local cache = {}
local cached = 0
-- Queries under way: key -> tokens of the tasks that wait.
---@type table<string, table[]>
local running = {}
local n_running = 0
-- Tokens of queries that wait for their turn.
local queue, queue_first, queue_last = {}, 1, 0

-- What dns.server said: list of addresses (nil: those of the file), port, options.
local chosen = { port = DEFAULT_PORT, options = {} }

--------------------------------------------------------------------- cache

local function forget(key)
	if cache[key] then
		cache[key] = nil
		cached = cached - 1
	end
end

-- Make room, an eighth: first what is too old, then whatever comes.
local function shrink(now)
	local rest = dns.CACHE_SIZE - dns.CACHE_SIZE // 8 - 1
	for key, entry in pairs(cache) do
		if now >= entry.expires then
			forget(key)
		end
	end
	for key in pairs(cache) do
		if cached <= rest then
			break
		end
		forget(key)
	end
end

local function store(key, entry)
	if cache[key] == nil then
		if cached >= dns.CACHE_SIZE then
			shrink(skynet.now())
		end
		cache[key] = entry
		cached = cached + 1
	end
	cache[key] = entry
end

------------------------------------------------------------------- queries

local function servers_of(conf)
	local list = {}
	for i, address in ipairs(chosen.addresses or conf.servers) do
		local ok, numeric = pcall(socket.resolve, address)
		list[i] = { address = ok and numeric[1] or address, port = chosen.port }
	end
	if #list == 0 then
		error("Call dns.server first", 0)
	end
	return list
end

-- Settings of now: dns.server wins over the file. A server that was chosen has nothing to
-- do with the search list of this machine.
local function settings()
	local conf = dnsconfig.resolv(dns.DEFAULT_RESOLV_CONF)
	local options = chosen.options
	return {
		servers = conf.servers,
		search = options.search or (chosen.addresses and {} or conf.search),
		ndots = options.ndots or conf.ndots,
		timeout = options.timeout or conf.timeout,
		attempts = options.attempts or conf.attempts,
	}
end

local function wait_turn()
	if n_running >= MAX_QUERIES then
		local token = { go = false }
		queue[queue_last + 1] = token
		queue_last = queue_last + 1
		repeat
			skynet.wait(token)
		until token.go
	else
		n_running = n_running + 1
	end
end

local function end_turn()
	local token = queue[queue_first]
	if token then
		queue[queue_first] = nil
		queue_first = queue_first + 1
		token.go = true
		skynet.wakeup(token)
	else
		n_running = n_running - 1
	end
end

-- Seconds that the absence of addresses may be kept.
local function negative_ttl(result)
	return math.min(result.ttl or 0, MAX_NEGATIVE_TTL)
end

-- Put the outcome of a query (nil: no server was of use) into the cache.
local function remember(key, result)
	local now = skynet.now()
	local old = cache[key]
	if result and result.addresses then
		local ttl = math.min(result.ttl, MAX_TTL)
		store(key, { addresses = result.addresses, expires = now + ttl * 100 })
	elseif old and old.addresses then
		if now < old.expires + MAX_STALE * 100 then
			old.recheck = now + (result and negative_ttl(result) or STALE_RETRY) * 100
		else
			forget(key)
		end
	elseif result and result.ttl then
		store(key, { why = result.why, expires = now + negative_ttl(result) * 100 })
	end
end

-- Ask and remember. Yields.
local function run(key, name, qtype, servers, conf)
	wait_turn()
	local ok, result, err = pcall(dnsquery.ask, name, qtype, servers, conf)
	end_turn()
	if not ok then
		notice("dns error", MAX_LINES, "DNS query %s: %s", name, result)
		result, err = nil, "internal error"
	end
	remember(key, result)
	if result == nil and err == "timeout" then
		notice("dns timeout", MAX_LINES, "DNS query %s timeout", name)
	end
	return result, err
end

local function start(key, name, qtype, conf)
	local servers = servers_of(conf)
	local waiters = {}
	skynet.fork(function()
		local ok, result, err = pcall(run, key, name, qtype, servers, conf)
		if not ok then
			result, err = nil, result
		end
		running[key] = nil
		for i = 1, #waiters do
			local token = waiters[i]
			token.is_done, token.result, token.err = true, result, err
			skynet.wakeup(token)
		end
	end)
	running[key] = waiters
	return waiters
end

-- Join the query for that key, or make it. Yields.
local function query(key, name, qtype, conf)
	local waiters = running[key] or start(key, name, qtype, conf)
	local token = { is_done = false, result = nil, err = nil }
	waiters[#waiters + 1] = token
	repeat
		skynet.wait(token)
	until token.is_done
	return token.result, token.err
end

------------------------------------------------------------------- lookups

-- The addresses of a full name; or nil, why not, and whether it is no use to try others.
-- A third result beside addresses: they are stale. Yields.
local function lookup(name, family, conf)
	local key = family .. " " .. name
	local now = skynet.now()
	local entry = cache[key]
	if entry and now < entry.expires then
		return entry.addresses, entry.why
	elseif not (entry and entry.recheck and now < entry.recheck) then
		local result, err = query(key, name, TYPE[family], conf)
		if result and result.addresses then
			return result.addresses
		elseif not (cache[key] and cache[key].addresses) then
			return nil, result and result.why or err, result == nil
		end
		entry = cache[key]
	end
	notice("dns stale", MAX_LINES, "DNS query %s has no answer, an old one is used", name)
	return entry.addresses, nil, true
end

-- Full names to try, in this order (resolv.conf(5)).
local function full_names(name, conf)
	if name:sub(-1) == "." then
		return { (name:sub(1, -2)) }
	end
	local list = {}
	local _, dots = name:gsub("%.", "")
	for i, domain in ipairs(conf.search) do
		list[i] = domain == "" and name or name .. "." .. domain
	end
	table.insert(list, dots >= conf.ndots and 1 or #list + 1, name)
	return list
end

-- Addresses that need no name server, or nil.
local function local_addresses(name, family)
	local known = dnsconfig.hosts(dns.DEFAULT_HOSTS)[family][name]
	if known == nil and (name == "localhost" or name:find "%.localhost$") then
		-- Not to be asked for (RFC 6761 section 6.3).
		known = { family == "A" and "127.0.0.1" or "::1" }
	end
	return known
end

local function results(addresses, stale)
	local copy = table.move(addresses, 1, #addresses, 1, {})
	if stale then
		return copy[1], copy, "stale"
	end
	return copy[1], copy
end

---Addresses of a host name, from the hosts file, the cache, or a name server. A numeric
---address is its own result. Raises when there is no answer. Yields.
---@param name string
---@param ipv6 boolean? AAAA instead of A
---@return string? # the first address; nil for a bad name
---@return string[]|string # all; "illegal name"
---@return "stale"? # the answer is too old, but there is no other
function dns.resolve(name, ipv6)
	if type(name) ~= "string" then
		error("dns.resolve takes the name of a host, not a " .. type(name), 2)
	end
	if name:find "^[%d.]+$" or name:find(":", 1, true) then
		return name, { name }
	end
	name = name:lower()
	local bare = name:gsub("%.$", "")
	if not dnsquery.is_name(bare) then
		return nil, "illegal name"
	end
	local family = ipv6 and "AAAA" or "A"
	local known = local_addresses(bare, family)
	if known then
		return results(known)
	end
	local conf = settings()
	local why
	for _, full in ipairs(full_names(name, conf)) do
		if dnsquery.is_name(full) then
			local addresses, reason, third = lookup(full, family, conf)
			if addresses then
				return results(addresses, third)
			end
			-- Of several reasons the first one says the most.
			why = why or reason
			if third then
				break
			end
		end
	end
	error(string.format("DNS query %s: timeout or no answer (%s)", name, why or "illegal name"), 2)
end

local RULES = { timeout = "number", attempts = "number", search = "table", ndots = "count" }

---@class skynet.dns.options
---@field timeout integer? 1/100 s for one try; default 500 or what the file says
---@field attempts integer? tries with each server; default 2 or what the file says
---@field search string[]? domains to try; default: of the file, none with an address
---@field ndots integer? names with as many dots are tried as they are first; default 1

---Choose the servers, for every query from now on. Without an address: those of the
---resolver file. Does not yield.
---@param address string|string[]|nil numeric
---@param port integer? default 53
---@param options skynet.dns.options?
function dns.server(address, port, options)
	local list = type(address) == "string" and { address } or address
	if list ~= nil and type(list) ~= "table" then
		require "skynet.misuse"("dns.server", 1, "numeric address or a list of them", address)
	end
	for _, item in ipairs(list or {}) do
		if type(item) ~= "string" or not (item:find "^[%d.]+$" or item:find(":", 1, true)) then
			error("dns.server needs a numeric address, got " .. tostring(item), 2)
		end
	end
	port = port or DEFAULT_PORT
	if math.type(port) ~= "integer" or port < 1 or port > 65535 then
		error("dns.server needs a port, got " .. tostring(port), 2)
	end
	require "skynet.options".check("dns.server", options, RULES, 2)
	chosen = { addresses = list, port = port, options = options or {} }
end

---Forget all answers. Does not yield.
function dns.flush()
	cache = {}
	cached = 0
end

return dns
