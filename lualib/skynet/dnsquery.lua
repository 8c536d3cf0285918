-- skynet.dnsquery: one question to name servers, over UDP and, when an answer does not
-- fit, over TCP (RFC 1035, RFC 7766).
--
-- Owns the sockets of its questions: each try has its own UDP socket, hence its own
-- random port, and its own random id, and both end with the try, so that late answers go
-- nowhere. Believed is an answer that comes from the asked server, has that id, and
-- repeats the question. A server that sends many others is asked over TCP, where nobody
-- can guess along.

local skynet = require "skynet"
local socket = require "skynet.socket"
local crypt = require "skynet.crypt"
local codec = require "skynet.dnscodec"
local notice = require "skynet.notice"

local dnsquery = {}

local CLASS_IN = 1
local CNAME = 5
local NOERROR, NXDOMAIN = 0, 3
local RCODE = {
	"malformed question", "server failure", "no such name", "not implemented", "refused",
}
-- Head of a question that wants recursion: flags, counts.
local FLAGS = 0x0100
local FLAG_TRUNCATED = 0x0200
-- Log lines about them in a second.
local MAX_LINES = 100
-- Unfitting answers in one try before TCP is used.
local MAX_STRANGE = 32
-- Aliases that are followed, within an answer and across answers.
local MAX_ALIASES = 16

---@class skynet.dnsquery.server
---@field address string numeric, as the system writes it
---@field port integer

---@class skynet.dnsquery.result
---@field addresses string[]? nil: the name has none
---@field ttl integer? seconds; of a failure: nil if it may not be kept
---@field why string? of a failure

------------------------------------------------------------------ messages

-- A name is checked before it comes here: labels have 1 to 63 bytes.
local function question_of(name, qtype)
	local labels = name:gsub("[^.]+%.?", function(label)
		return string.pack("s1", (label:gsub("%.$", "")))
	end)
	return labels .. "\0" .. string.pack(">I2I2", qtype, CLASS_IN)
end

local function message_of(id, question)
	return string.pack(">I2I2I2I2I2I2", id, FLAGS, 1, 0, 0, 0) .. question
end

-- An answer that was cut off in the middle of a record.
local function is_cut(packet, id, question)
	if #packet < 12 + #question then
		return false
	end
	local got, flags = string.unpack(">I2I2", packet)
	return got == id and flags & FLAG_TRUNCATED ~= 0 and packet:sub(13, 12 + #question) == question
end

-- The answer to the question, or nil and what is strange about it.
local function read_answer(packet, id, ask)
	local reply = codec.parse(packet)
	if reply == nil then
		if is_cut(packet, id, ask.question) then
			return { is_truncated = true }
		end
		return nil, "package"
	elseif not reply.is_response or reply.opcode ~= 0 or reply.id ~= id then
		return nil, "package"
	elseif reply.name ~= ask.name or reply.type ~= ask.type or reply.class ~= CLASS_IN then
		return nil, "name"
	end
	return reply
end

local function log_strange(what, from)
	notice("dns", MAX_LINES, "Recv an invalid %s when dns query from %s", what, from)
end

-------------------------------------------------------------------- asking

-- Ends the socket of a try.
local socket_meta = { __close = function(s)
	if s.id and not pcall(skynet.fork, socket.close, s.id) then
		socket.close(s.id)
	end
end }

local function random_id()
	return (string.unpack(">I2", crypt.random(2)))
end

-- The answer; or nil and "timeout" or "strange". Yields.
local function ask_udp(server, ask, timeout)
	local id = random_id()
	local reply
	local strange = 0
	local token = {}
	local function receive(packet, from)
		local ip, port = socket.udp_address(from)
		local what = "package"
		if ip == server.address and port == server.port then
			local good
			good, what = read_answer(packet, id, ask)
			reply = reply or good
		end
		if what then
			strange = strange + 1
			if strange == 1 then
				log_strange(what, ip .. ":" .. port)
			end
		end
		if reply or strange >= MAX_STRANGE then
			skynet.wakeup(token)
		end
	end
	local s <close> = setmetatable({ id = nil }, socket_meta)
	local ok, fd = pcall(socket.udp_dial, server.address, server.port, receive)
	if not ok then
		return nil, fd
	end
	s.id = fd
	socket.write(fd, message_of(id, ask.question))
	local deadline = skynet.now() + timeout
	while not reply and strange < MAX_STRANGE and skynet.now() < deadline do
		skynet.sleep(deadline - skynet.now(), token)
	end
	return reply, strange >= MAX_STRANGE and "strange" or "timeout"
end

-- The answer, or nil and why not. Yields.
local function ask_tcp(server, ask, timeout)
	local deadline = skynet.now() + timeout
	local id = random_id()
	local s <close> = setmetatable({ id = nil }, socket_meta)
	local fd, err = socket.open(server.address, server.port, timeout)
	if not fd then
		return nil, err
	end
	s.id = fd
	local function read(n)
		return socket.read(fd, n, math.max(0, deadline - skynet.now()))
	end
	socket.write(fd, string.pack(">s2", message_of(id, ask.question)))
	local size = read(2)
	local packet = size and read(string.unpack(">I2", size))
	if not packet then
		return nil, "timeout"
	end
	local reply, what = read_answer(packet, id, ask)
	if what then
		log_strange(what, server.address .. ":" .. server.port)
	end
	if reply and reply.is_truncated then
		return nil, "the answer is cut off"
	end
	return reply, what
end

-- A reply that settles the question, or nil and why not. Yields.
local function ask_server(server, ask, timeout)
	local reply, err = ask_udp(server, ask, timeout)
	if reply and reply.is_truncated or err == "strange" and not reply then
		reply, err = ask_tcp(server, ask, timeout)
	end
	if reply == nil then
		return nil, err
	elseif reply.rcode ~= NOERROR and reply.rcode ~= NXDOMAIN then
		return nil, RCODE[reply.rcode] or "answer code " .. reply.rcode
	end
	return reply
end

-- Asks all servers in turn, several times. Yields.
local function ask_all(servers, ask, conf)
	local reason
	for _ = 1, conf.attempts do
		for _, server in ipairs(servers) do
			local reply, err = ask_server(server, ask, conf.timeout)
			if reply then
				return reply
			end
			reason = err
		end
	end
	return nil, reason
end

------------------------------------------------------------------- results

-- The addresses that an answer gives to its question. Results: addresses or nil, their
-- ttl, and the name where the aliases end.
local function collect(reply)
	local alias, addresses, ttl_of = {}, {}, {}
	for _, record in ipairs(reply.answers) do
		local name = record.name
		if record.type == CNAME then
			alias[name] = alias[name] or record.data
		elseif record.type == reply.type then
			local list = addresses[name] or {}
			addresses[name] = list
			list[#list + 1] = record.data
		end
		ttl_of[name] = math.min(ttl_of[name] or math.huge, record.ttl)
	end
	local name, ttl = reply.name, math.maxinteger
	for _ = 1, MAX_ALIASES do
		ttl = math.min(ttl, ttl_of[name] or math.maxinteger)
		if addresses[name] or alias[name] == nil then
			break
		end
		name = alias[name]
	end
	return addresses[name], ttl, name
end

---Ask for the addresses of a name. Nil and the reason when no server gives a usable
---answer; a name without addresses is a result. Yields.
---@param name string lower case, legal, no dot at its end
---@param qtype integer 1 or 28
---@param servers skynet.dnsquery.server[]
---@param conf {timeout: integer, attempts: integer}
---@return skynet.dnsquery.result?
---@return string?
function dnsquery.ask(name, qtype, servers, conf)
	local ttl = math.maxinteger
	for _ = 1, MAX_ALIASES do
		local ask = { name = name, type = qtype, question = question_of(name, qtype) }
		local reply, err = ask_all(servers, ask, conf)
		if reply == nil then
			return nil, err
		end
		local addresses, own_ttl, final = collect(reply)
		ttl = math.min(ttl, own_ttl)
		if addresses then
			return { addresses = addresses, ttl = ttl }
		elseif final == name or reply.rcode == NXDOMAIN then
			local why = reply.rcode == NXDOMAIN and RCODE[NXDOMAIN] or "no address"
			return { ttl = reply.negative_ttl, why = why }
		elseif not dnsquery.is_name(final) then
			return { why = "an alias that is no host name" }
		end
		-- The server told the alias only.
		name = final
	end
	return { why = "too many aliases" }
end

---Whether a text can be asked for: labels of 1 to 63 letters, digits, "-" and "_", at
---most 253 bytes. Does not yield.
---@param name string
---@return boolean
function dnsquery.is_name(name)
	if #name > 253 or name:find "[^%l%d_.-]" or ("." .. name .. "."):find("..", 1, true) then
		return false
	end
	for label in name:gmatch "[^.]+" do
		if #label > 63 then
			return false
		end
	end
	return true
end

return dnsquery
