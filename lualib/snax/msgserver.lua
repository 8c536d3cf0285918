-- snax.msgserver: a gate for clients that come from a login server. They prove their
-- login on each connection and send requests; whoever lost a connection comes back on a
-- new one and asks again for the answers that it missed.
--
-- Owns the logins, their answers (snax.msgcache) and which connection each has: one at a
-- time, the newest; an older one is closed. A login lives from login() to logout(),
-- with connections or without. Wire format: doc/reference/login.md.

local skynet = require "skynet"
local crypt = require "skynet.crypt"
local driver = require "skynet.socketdriver"
local netpack = require "skynet.netpack"
local notice = require "skynet.notice"
local options = require "skynet.options"
local gateserver = require "snax.gateserver"
local msgcache = require "snax.msgcache"

local b64encode, b64decode = crypt.base64encode, crypt.base64decode

-- Largest content of an answer: the frame also holds ok and session.
local MAX_ANSWER = 65535 - 5
-- Indices of handshakes are decimal and exact in any client's numbers.
local MAX_INDEX = 2 ^ 53 | 0
-- Defaults of what conf may say, see msgserver.start.
local DEFAULT_EXPIRED_NUMBER = 128
local DEFAULT_CACHE_BYTES = 1024 * 1024
local DEFAULT_CACHE_AGE = 30000
local DEFAULT_MAX_PENDING = 1024
local DEFAULT_HANDSHAKE_TIMEOUT = 1000
local DEFAULT_MAX_BACKLOG = 4096
-- Bytes of a bad package that go into the log.
local LOGGED_BYTES = 64
-- Lines of a kind about what peers do, in a second.
local MAX_LINES = 100

local STATUS = {
	[200] = "200 OK",
	[400] = "400 Bad Request",
	[401] = "401 Unauthorized",
	[403] = "403 Index Expired",
	[404] = "404 User Not Found",
}

---@class snax.msgserver.login
---@field username string
---@field secret string
---@field index integer of the last accepted handshake
---@field cache snax.msgcache
---@field fd integer|false|nil the current connection
---@field addr string?

local msgserver = {}

---@type table<string, snax.msgserver.login>
local logins = {}
---@type table<integer, snax.msgserver.login> by current connection
local connections = {}
-- Address of each connection, announced and not yet gone.
---@type table<integer, string>
local addresses = {}
-- Connections that did not say who they are yet.
---@type table<integer, boolean>
local strangers = {}

-- Settings of msgserver.start.
local conf
local limits

------------------------------------------------------------------ user names

---The parts of a user name.
---@param username string
---@return string? uid nil when it is not one
---@return string subid
---@return string server
function msgserver.userid(username)
	if type(username) ~= "string" then
		require "skynet.misuse"("msgserver.userid", 1, "string", username)
	end
	local uid, server, subid = username:match "^([^@]*)@([^#]*)#(.*)$"
	if uid then
		return b64decode(uid), b64decode(subid), b64decode(server)
	end
end

---@param uid string
---@param subid string|integer
---@param server string
---@return string
function msgserver.username(uid, subid, server)
	if type(uid) ~= "string" and type(uid) ~= "number" then
		require "skynet.misuse"("msgserver.username", 1, "string", uid)
	end
	if type(server) ~= "string" and type(server) ~= "number" then
		require "skynet.misuse"("msgserver.username", 3, "string", server)
	end
	return string.format("%s@%s#%s", b64encode(uid), b64encode(server), b64encode(tostring(subid)))
end

---------------------------------------------------------------------- logins

local function close_connection(fd)
	connections[fd] = nil
	gateserver.closeclient(fd)
end

---Accept connections of a user. Raises when it is accepted already.
---@param username string
---@param secret string 8 bytes; or 32, then clients prove it with HMAC-SHA-256
function msgserver.login(username, secret)
	if type(username) ~= "string" then
		require "skynet.misuse"("msgserver.login", 1, "string", username)
	end
	if type(secret) ~= "string" then
		require "skynet.misuse"("msgserver.login", 2, "string", secret)
	end
	assert(logins[username] == nil, "the user is logged in already")
	assert(#secret == 8 or #secret == 32, "a secret has 8 or 32 bytes")
	logins[username] = {
		username = username,
		secret = secret,
		index = 0,
		cache = msgcache.new(limits),
		-- Its place: to be connected it needs no memory.
		fd = false,
	}
end

---Forget a user and close its connection.
---@param username string unknown: no effect
function msgserver.logout(username)
	local login = logins[username]
	if login then
		logins[username] = nil
		local fd = login.fd
		if fd then
			login.fd, login.addr = nil, nil
			close_connection(fd)
		end
	end
end

---Address of a user's connection.
---@param username string
---@return string? # "ip:port", nil without one
function msgserver.ip(username)
	local login = logins[username]
	return login and login.addr
end

------------------------------------------------------------------- handshake

-- Whether a connection is closed that takes no more.
local closes_full = true

local function send(fd, payload)
	if not driver.send(fd, string.pack(">s2", payload)) and closes_full then
		-- What it has asked besides is not worth the work.
		gateserver.closeclient(fd)
	end
end

-- Whether the client knows the secret.
local function is_proof(login, text, proof)
	local want
	if #login.secret == 8 then
		want = crypt.hmac_hash(login.secret, text)
	else
		want = crypt.hmac_sha256(login.secret, text)
	end
	return crypt.equal(proof, want)
end

local function parse_index(text)
	local index = #text <= 16 and text:find "^%d+$" and math.tointeger(tonumber(text))
	return index and index < MAX_INDEX and index or nil
end

-- Status, and if it is 200 the login and the index.
local function check_handshake(payload)
	local username, index_text, proof_text = payload:match "^([^:]*):([^:]*):([^:]*)$"
	local login = logins[username]
	if login == nil then
		return 404
	end
	local index = parse_index(index_text)
	local is_base64, proof = pcall(b64decode, proof_text)
	if index == nil or not is_base64 then
		return 400
	elseif index <= login.index then
		return 403
	elseif not is_proof(login, username .. ":" .. index_text, proof) then
		return 401
	end
	return 200, login, index
end

local function greet(fd, payload)
	strangers[fd] = nil
	local status, login, index = check_handshake(payload)
	if status ~= 200 then
		notice("refused", MAX_LINES, "msgserver: %s refused, %s", addresses[fd], STATUS[status])
		send(fd, STATUS[status])
		return gateserver.closeclient(fd)
	end
	local superseded = login.fd
	connections[fd] = login
	login.index = index
	login.fd, login.addr = fd, addresses[fd]
	if superseded then
		close_connection(superseded)
	end
	send(fd, STATUS[200])
end

-------------------------------------------------------------------- requests

-- Text of a peer for the log: bounded, printable.
local function printable(payload)
	local text = payload:sub(1, LOGGED_BYTES):gsub("[^\32-\126]", function(c)
		return string.format("\\x%02x", c:byte())
	end)
	return #payload > LOGGED_BYTES and text .. "..." or text
end

local function invalid(fd, err, payload)
	notice("invalid", MAX_LINES, "Invalid package %s : %s (%s)", err, printable(payload),
		addresses[fd] or "closed")
	-- The disconnect that follows tells disconnect_handler.
	gateserver.closeclient(fd)
end

-- Age and size of the answers of logins that are silent: looked at only while there
-- are any.
local is_sweeping = false
local function sweep()
	local now, some_left = skynet.now(), false
	for _, login in pairs(logins) do
		some_left = login.cache:trim(now) or some_left
	end
	is_sweeping = false
	if some_left then
		skynet.timeout(math.max(1, limits.age // 2), sweep)
		is_sweeping = true
	end
end

local function start_sweep()
	if not is_sweeping then
		skynet.timeout(limits.age, sweep)
		is_sweeping = true
	end
end

-- The content of an answer and whether it is one. Yields as the handler does.
local function handle(login, content)
	local username = login.username
	local ok, result = pcall(conf.request_handler, username, content)
	if not ok then
		notice("request", MAX_LINES, "msgserver: request of %s at %s: %s", username, login.addr or "closed",
			result)
		return "", false
	elseif result == nil then
		return "", true
	elseif type(result) ~= "string" then
		notice("answer", MAX_LINES, "msgserver: the answer to %s is a %s", username, type(result))
		return "", false
	elseif #result > MAX_ANSWER then
		notice("answer", MAX_LINES, "msgserver: the answer to %s is too large, %d bytes", username, #result)
		return "", false
	end
	return result, true
end

local function make_answer(login, session, payload)
	local result, ok = handle(login, payload:sub(1, -5))
	return result .. string.pack(">I1I4", ok and 1 or 0, session)
end

local function answer_new(login, entry, payload)
	-- Made before, for when there is no memory later on.
	local made, failure = pcall(string.pack, ">I1I4", 0, entry.session)
	if not made then
		login.cache:forget(entry)
		error(failure, 0)
	end
	local ok, answer = pcall(make_answer, login, entry.session, payload)
	if not ok then
		pcall(notice, "answer", MAX_LINES, "msgserver: no answer to %s: %s", login.username, answer)
		answer = failure
	end
	login.cache:complete(entry, answer, skynet.now())
	if connections[entry.fd] == login and login.fd == entry.fd then
		send(entry.fd, answer)
	end
	if logins[login.username] == login then
		start_sweep()
	end
end

local function request(fd, login, payload)
	if #payload < 4 then
		return invalid(fd, "too short", payload)
	end
	local session = string.unpack(">I4", payload, #payload - 3)
	local what, entry = login.cache:ask(session, fd, login.index)
	if what == "new" then
		answer_new(login, entry, payload)
	elseif what == "resend" then
		send(fd, entry.answer)
	elseif what == "conflict" then
		invalid(fd, string.format("Conflict session %08x", session), payload)
	elseif what == "full" then
		invalid(fd, "too many requests", payload)
	end
end

--------------------------------------------------------------------- service

local handler = {}

-- Of a connection, in bytes: what a service is quick enough to write before it hears that
-- max_backlog is reached. nil when `open` was given one.
local send_limit

function handler.open(_, gate_conf)
	closes_full = gate_conf.send_policy ~= "drop"
	send_limit = gate_conf.send_limit == nil and 2048 * limits.backlog or nil
	local servername = assert(gate_conf.servername, "open needs a servername")
	if conf.register_handler then
		return conf.register_handler(servername, gate_conf.address, gate_conf.port)
	end
end

function handler.connect(fd, addr)
	addresses[fd] = addr
	strangers[fd] = true
	if send_limit then
		driver.option(fd, { send_limit = send_limit })
	end
	gateserver.openclient(fd)
	skynet.timeout(limits.handshake, function()
		if strangers[fd] then
			strangers[fd] = nil
			notice("silent", MAX_LINES, "msgserver: %s did not say who it is", addr)
			gateserver.closeclient(fd)
		end
	end)
end

local function take(fd, msg, sz)
	local payload = netpack.tostring(msg, sz)
	local login = connections[fd]
	if login then
		request(fd, login, payload)
	elseif strangers[fd] then
		greet(fd, payload)
	end
end

-- Who gets no answer, as there is no memory for one, hears it from the end of the connection.
function handler.message(fd, msg, sz)
	local ok, err = pcall(take, fd, msg, sz)
	if not ok then
		gateserver.closeclient(fd)
		error(err, 0)
	end
end

function handler.disconnect(fd)
	local addr = addresses[fd]
	addresses[fd] = nil
	strangers[fd] = nil
	local login = connections[fd]
	if login and conf.disconnect_handler then
		local ok, err = pcall(conf.disconnect_handler, login.username)
		if not ok then
			notice("disconnect", MAX_LINES, "msgserver: disconnect of %s at %s: %s", login.username, addr, err)
		end
	end
	connections[fd] = nil
	if login and login.fd == fd then
		login.fd, login.addr = nil, nil
	end
	gateserver.closeclient(fd)
end

function handler.error(fd, text)
	notice("error", MAX_LINES, "msgserver: error on %s : %s", addresses[fd] or fd, text)
end

-- A client that asks and does not read what it gets.
function handler.warning(fd, kib)
	if kib >= limits.backlog then
		notice("backlog", MAX_LINES, "msgserver: %s does not read, %d KiB wait for it",
			addresses[fd] or "closed", kib)
		gateserver.closeclient(fd)
		-- Without what is not sent yet.
		driver.shutdown(fd)
	end
end

local command = {}

function command.login(...) return conf.login_handler(...) end
function command.logout(...) return conf.logout_handler(...) end
function command.kick(...) return conf.kick_handler(...) end

function handler.command(cmd, _, ...)
	local f = command[cmd] or error("Invalid msgserver command " .. tostring(cmd), 0)
	return f(...)
end

---@class snax.msgserver.conf
---@field login_handler fun(uid: any, secret: string, ...): ... command `login`
---@field logout_handler fun(uid: any, subid: any, ...): ... command `logout`
---@field kick_handler fun(uid: any, subid: any, ...): ... command `kick`
---@field request_handler fun(username: string, msg: string): string? may yield
---@field register_handler (fun(servername: string, ip: string, port: integer): ...)?
---@field disconnect_handler fun(username: string)? the current connection has ended
---@field expired_number integer? answers kept per login, default 128
---@field cache_bytes integer? their size together, default 1 MiB
---@field cache_age integer? 1/100 s they are kept, default 30000
---@field max_pending integer? requests of a login without an answer yet, default 1024
---@field handshake_timeout integer? 1/100 s, default 1000
---@field max_backlog integer? KiB of unsent answers that close a connection, default 4096

local OPTIONS = {}
for name in ([[login_handler logout_handler kick_handler request_handler register_handler disconnect_handler
	expired_number cache_bytes cache_age max_pending handshake_timeout max_backlog]]):gmatch "%S+" do
	OPTIONS[name] = true
end

---Turn the service into a message server. Starts it.
---@param settings snax.msgserver.conf
function msgserver.start(settings)
	if type(settings) ~= "table" then
		error("msgserver: it is configured with a table, got a " .. type(settings), 2)
	end
	for _, key in ipairs { "login_handler", "logout_handler", "kick_handler", "request_handler" } do
		if type(settings[key]) ~= "function" then
			error("msgserver: " .. key .. " must be a function", 2)
		end
	end
	options.warn("msgserver option", settings, OPTIONS)
	local function number(key, default)
		local n = settings[key]
		if n ~= nil and (math.type(n) ~= "integer" or n < 1) then
			error(string.format("msgserver: %s must be a whole number above 0, not %s", key, tostring(n)), 3)
		end
		return n or default
	end
	conf = settings
	limits = {
		count = number("expired_number", DEFAULT_EXPIRED_NUMBER),
		bytes = number("cache_bytes", DEFAULT_CACHE_BYTES),
		age = number("cache_age", DEFAULT_CACHE_AGE),
		pending = number("max_pending", DEFAULT_MAX_PENDING),
		handshake = number("handshake_timeout", DEFAULT_HANDSHAKE_TIMEOUT),
		backlog = number("max_backlog", DEFAULT_MAX_BACKLOG),
	}
	gateserver.start(handler)
end

return msgserver
