-- skynet.dnsconfig: the files of a system's resolver, hosts(5) and resolv.conf(5).
--
-- Owns what it has read, until the file changes: each use asks the system for the
-- file's time and size and reads it again when they differ. A file that is missing is
-- an empty one; one that can't be read now leaves what was known. Reading does not yield:
-- these files are small and local.

local codec = require "skynet.dnscodec"
local notice = require "skynet.notice"

local dnsconfig = {}

-- resolv.conf(5): what holds without an option, and the most it may say.
local DEFAULT_NDOTS, MAX_NDOTS = 1, 15
local DEFAULT_TIMEOUT, MAX_TIMEOUT = 5, 30
local DEFAULT_ATTEMPTS, MAX_ATTEMPTS = 2, 5
local MAX_SERVERS = 3
-- Larger files are refused.
local MAX_SIZE = 16 * 1024 * 1024

---@class skynet.dnsconfig.resolv
---@field servers string[] addresses
---@field search string[] domains
---@field ndots integer a name with as many dots is tried as it is first
---@field timeout integer 1/100 s for one try
---@field attempts integer tries with each server

-- Lines without comments, as lists of words.
local function each_line(text)
	local next_line = text:gmatch "[^\n]+"
	return function()
		local line = next_line()
		if line == nil then
			return nil
		end
		local words = {}
		for word in line:gsub("[#;].*", ""):gmatch "%S+" do
			words[#words + 1] = word
		end
		return words
	end
end

local function parse_hosts(text)
	local hosts = { A = {}, AAAA = {} }
	for words in each_line(text) do
		local address = words[1]
		local family = address and hosts[address:find(":", 1, true) and "AAAA" or "A"]
		for i = 2, #words do
			local name = words[i]:lower()
			local list = family[name] or {}
			family[name] = list
			list[#list + 1] = address
		end
	end
	return hosts
end

local function bounded(text, low, high)
	local n = math.tointeger(tonumber(text))
	return n and math.max(low, math.min(n, high))
end

local option = {}

function option.ndots(conf, value)
	conf.ndots = bounded(value, 0, MAX_NDOTS) or conf.ndots
end

function option.timeout(conf, value)
	conf.timeout = (bounded(value, 1, MAX_TIMEOUT) or DEFAULT_TIMEOUT) * 100
end

function option.attempts(conf, value)
	conf.attempts = bounded(value, 1, MAX_ATTEMPTS) or conf.attempts
end

local keyword = {}

function keyword.nameserver(conf, words)
	if words[2] and #conf.servers < MAX_SERVERS then
		conf.servers[#conf.servers + 1] = words[2]
	end
end

-- The last of `domain` and `search` holds.
function keyword.search(conf, words)
	conf.search = {}
	for i = 2, #words do
		conf.search[i - 1] = words[i]:lower():gsub("%.$", "")
	end
end
keyword.domain = keyword.search

function keyword.options(conf, words)
	for i = 2, #words do
		local name, value = words[i]:match "^(%a+):(%d+)$"
		if option[name] then
			option[name](conf, value)
		end
	end
end

local function parse_resolv(text)
	local conf = {
		servers = {},
		search = {},
		ndots = DEFAULT_NDOTS,
		timeout = DEFAULT_TIMEOUT * 100,
		attempts = DEFAULT_ATTEMPTS,
	}
	for words in each_line(text) do
		local f = keyword[words[1]]
		if f then
			f(conf, words)
		end
	end
	return conf
end

-- The contents; nil and the reason when they can't be had now.
local function read(path)
	local f, why = io.open(path, "rb")
	if f == nil then
		return nil, why
	end
	local text
	text, why = f:read(MAX_SIZE)
	f:close()
	-- An empty file gives neither.
	return text or (why == nil and "" or nil), why
end

-- A function that gives the parsed contents of a file. What can't be read is not taken for
-- empty: what was read before holds, and the next use tries again.
local function watch(parse)
	local known_path, known_version, value
	return function(path)
		local version, text, why
		if path then
			version, why = codec.version(path)
		end
		if value and path == known_path and version == known_version and not why then
			return value
		end
		if version then
			text, why = read(path)
		end
		if why then
			notice("dns files", 1, "dns: can't read %s", why)
			return path == known_path and value or parse ""
		end
		known_path, known_version = path, version
		value = parse(text or "")
		return value
	end
end

---What hosts(5) says: lists of addresses by name, in lower case, by A and AAAA. Does not
---yield.
---@type fun(path: string?): {A: table<string, string[]>, AAAA: table<string, string[]>}
dnsconfig.hosts = watch(parse_hosts)

---What resolv.conf(5) says. Does not yield.
---@type fun(path: string?): skynet.dnsconfig.resolv
dnsconfig.resolv = watch(parse_resolv)

return dnsconfig
