-- debug_console [ip] port: commands of skynet.consolecommand for people with
-- telnet or nc, and for programs over HTTP (GET /list, POST with the line as
-- body). Listens on 127.0.0.1 unless told otherwise. With the config key
-- `debug_console_secret` a connection must first say `auth SECRET` (HTTP:
-- header `Authorization: Bearer SECRET`). Owns the listener and one task per
-- connection; nothing that a peer sends is kept beyond the limits below.

local skynet = require "skynet"
local socket = require "skynet.socket"
local notice = require "skynet.notice"
local console = require "skynet.consolecommand"

local BANNER = "Welcome to skynet console"
local CMD_OK, CMD_ERROR = "<CMD OK>", "<CMD Error>"

-- Bytes of unread input at which a connection is closed.
local INPUT_LIMIT = 64 * 1024
-- Limits of an HTTP request: header lines, their bytes, bytes of the body.
local HTTP_HEADER_LINES, HTTP_HEADER_BYTES = 100, 8192
local HTTP_BODY_BYTES = 8192
-- A connection that says nothing for so long is a person who waits for the
-- banner; a program has sent its request by then, and gets the banner as part
-- of the answer. Centiseconds.
local BANNER_DELAY = 20
-- Lines of a kind about connections in a second.
local MAX_LINES = 100
-- Wrong secrets after which a connection is closed.
local AUTH_ATTEMPTS = 3

local arguments = table.pack(...)
local secret = skynet.getenv "debug_console_secret"
-- Centiseconds in which a connection must have said the secret, and an HTTP request must
-- be complete.
local time_limit = math.ceil(100 * (skynet.getenv "debug_console_timeout" or 30))

---@class console.connection
---@field fd integer
---@field out string[] output of the running command
---@field greeted boolean
---@field interactive boolean lines may be read while a command runs
---@field trusted boolean
---@field deadline integer? when what it says must be complete
local connection = {}
connection.__index = connection

function connection:print(...)
	local words = table.pack(...)
	for i = 1, words.n do
		words[i] = tostring(words[i])
	end
	self.out[#self.out + 1] = table.concat(words, "\t") .. "\n"
end

-- False when the peer takes nothing more.
function connection:flush()
	local text = table.concat(self.out)
	self.out = {}
	return text == "" or socket.write(self.fd, text)
end

-- How long to wait for the peer, nil = for ever.
function connection:time_left()
	return self.deadline and math.max(0, self.deadline - skynet.now())
end

-- What was read; nil when the peer is gone or late.
function connection:received(data, why)
	if why == "timeout" then
		self:log(self.trusted and "no complete request in time" or "no secret in time")
	end
	return data
end

function connection:log(text)
	notice("console", MAX_LINES, "debug_console: %s: %s", self.peer, text)
end

-- The next line without its end, nil when the peer is gone or late. Yields.
function connection:read_line()
	local line = self:received(socket.readline(self.fd, "\n", self:time_left()))
	return line and (line:gsub("\r$", ""))
end

function connection:greet()
	if not self.greeted then
		self.greeted = true
		self:print(BANNER)
	end
end

local function sorted_keys(t)
	local keys = {}
	for key in pairs(t) do
		keys[#keys + 1] = key
	end
	table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
	return keys
end

local function one_line(value)
	if type(value) ~= "table" then
		return tostring(value)
	end
	local fields = {}
	for i, key in ipairs(sorted_keys(value)) do
		fields[i] = tostring(key) .. ":" .. tostring(value[key])
	end
	return table.concat(fields, "\t")
end

local function print_result(conn, result)
	if type(result) == "table" then
		for _, key in ipairs(sorted_keys(result)) do
			conn:print(key, one_line(result[key]))
		end
	elseif result ~= nil then
		conn:print(result)
	end
end

-- Run one command line, with its terminator. Result: "ok", "unknown", "error".
local function execute(conn, line)
	local words = {}
	for word in line:gmatch "%S+" do
		words[#words + 1] = word
	end
	local name = words[1] or ""
	local ok, result
	if console.raw[name] then
		ok, result = pcall(console.raw[name], conn, line)
	elseif console.command[name] then
		ok, result = pcall(console.command[name], table.unpack(words, 2))
	else
		conn:print("Invalid command, type help for command list\n")
		conn:print(CMD_ERROR)
		return "unknown"
	end
	if ok then
		print_result(conn, result)
		conn:print(CMD_OK)
		return "ok"
	end
	conn:print(result)
	conn:print(CMD_ERROR)
	return "error"
end

-- Header fields of a request, names in lower case; nil when it is malformed.
local function read_headers(conn)
	local fields, bytes = {}, 0
	for _ = 1, HTTP_HEADER_LINES do
		local line = conn:read_line()
		if not line then
			return nil
		elseif line == "" then
			return fields
		end
		bytes = bytes + #line
		local name, value = line:match "^([^%s:]+):%s*(.-)%s*$"
		if not name or bytes > HTTP_HEADER_BYTES then
			return nil
		end
		name = name:lower()
		if fields[name] and fields[name] ~= value then
			return nil
		end
		fields[name] = value
	end
end

-- The body of a request, or nil and a status line.
local function read_body(conn, fields)
	local text = fields["content-length"]
	if not text then
		return nil, "411 Length Required"
	end
	local length = text:match "^%d+$" and #text < 10 and math.tointeger(tonumber(text))
	if not length then
		return nil, "400 Bad Request"
	elseif length > HTTP_BODY_BYTES then
		return nil, "413 Content Too Large"
	elseif length == 0 then
		return ""
	end
	local body = conn:received(socket.read(conn.fd, length, conn:time_left()))
	if not body then
		return nil, "400 Bad Request"
	end
	return body
end

-- "/call/8/%22x%22?y" is the line `call 8 "x"`.
local function path_to_line(path)
	path = path:gsub("%?.*$", ""):gsub("^/", "")
	local words = {}
	for part in path:gmatch "[^/]+" do
		words[#words + 1] = part:gsub("%%(%x%x)", function(hex)
			return string.char(tonumber(hex, 16))
		end)
	end
	return (table.concat(words, " "):gsub("%c", " "))
end

local HTTP_STATUS = {
	ok = "200 OK",
	unknown = "404 Not Found",
	error = "500 Internal Server Error",
}

local function respond(conn, status)
	local body = table.concat(conn.out)
	conn.out = {
		"HTTP/1.1 ", status, "\r\n",
		"Content-Type: text/plain; charset=utf-8\r\n",
		"Content-Length: ", #body, "\r\n",
		"Connection: close\r\n\r\n",
		body,
	}
	conn:flush()
end

-- The command line of a request, or nil and a status. Yields.
local function read_request(conn, method, path, version)
	-- A request without a version has no headers; that is how HTTP began.
	local fields = {}
	if version ~= "" or method == "POST" then
		fields = read_headers(conn)
		if not fields then
			return nil, "400 Bad Request"
		end
	end
	if secret and fields.authorization ~= "Bearer " .. secret then
		return nil, "401 Unauthorized"
	end
	if method == "GET" then
		return path_to_line(path)
	end
	local body, status = read_body(conn, fields)
	return body and body:gsub("[\r\n]+", " "), status
end

local function serve_http(conn, method, path, version)
	conn.interactive = false
	conn.deadline = skynet.now() + time_limit
	conn:greet()
	local line, status = read_request(conn, method, path, version)
	if line then
		status = HTTP_STATUS[execute(conn, line)]
	else
		conn:log(status)
		conn:print(status)
	end
	if version ~= "" then
		respond(conn, status)
	else
		conn:flush()
	end
end

-- One line of a connection that is not trusted yet. False ends it.
local function authenticate(conn, line)
	if line:match "^%s*auth%s+(.-)%s*$" == secret then
		conn.trusted = true
		conn.deadline = nil
		conn:print(CMD_OK)
		return true
	end
	conn.attempts = (conn.attempts or 0) + 1
	conn:print("Authentication required, type auth SECRET")
	conn:print(CMD_ERROR)
	return conn.attempts < AUTH_ATTEMPTS
end

local function serve_lines(conn)
	while true do
		local line = conn:read_line()
		if not line then
			return
		end
		local method, path, version = line:match "^(%u+) (%S+)%s*(.*)$"
		if method == "GET" or method == "POST" then
			serve_http(conn, method, path, version)
			return
		end
		conn:greet()
		local keep = true
		if line:match "%S" then
			if conn.trusted then
				execute(conn, line)
			else
				keep = authenticate(conn, line)
			end
		end
		if not conn:flush() or not keep then
			return
		end
		-- Whoever sends many lines at once does not keep others waiting.
		skynet.yield()
	end
end

local function serve(fd, peer)
	if not socket.start(fd) then
		return
	end
	socket.limit(fd, INPUT_LIMIT)
	notice("connected", MAX_LINES, "%s connected", peer)
	local conn = setmetatable({
		fd = fd,
		peer = peer,
		deadline = secret and skynet.now() + time_limit,
		out = {},
		greeted = false,
		interactive = true,
		trusted = not secret,
	}, connection)
	skynet.timeout(BANNER_DELAY, function()
		if not conn.greeted and not conn.closed then
			conn:greet()
			conn:flush()
		end
	end)
	local ok, err = pcall(serve_lines, conn)
	if not ok then
		conn:log(err)
	end
	conn.closed = true
	notice("disconnect", MAX_LINES, "%s disconnect", peer)
	socket.close(fd)
end

local function parse_arguments()
	if arguments.n > 2 then
		error("debug_console takes [ip] port, got " .. arguments.n .. " arguments", 0)
	end
	local ip = arguments.n == 2 and arguments[1] or "127.0.0.1"
	local port = math.tointeger(tonumber(arguments[arguments.n]))
	if not port then
		error("debug_console: invalid port " .. tostring(arguments[arguments.n]), 0)
	end
	return ip, port
end

skynet.start(function()
	local ip, port = parse_arguments()
	local listener
	listener, ip, port = socket.listen(ip, port)
	skynet.error(string.format("Start debug console at %s:%d", ip, port))
	socket.start(listener, serve)
end)
