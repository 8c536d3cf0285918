-- client: plays the example game from a terminal, with a plain Lua interpreter:
--   3rd/lua/lua examples/client.lua [host [port]]
-- Type a key to get its value, `quit` to leave.

package.cpath = "luaclib/?.so;" .. package.cpath
package.path = "lualib/?.lua;examples/?.lua;" .. package.path

if _VERSION ~= "Lua 5.5" and _VERSION ~= "Lua 5.4" then
	error "Use lua 5.5, for instance 3rd/lua/lua"
end

local socket = require "client.socket"
local proto = require "proto"
local sproto = require "sproto"

local HOST = arg and arg[1] or "127.0.0.1"
local PORT = arg and tonumber(arg[2]) or 8888
-- Pause between two looks at an idle connection, microseconds.
local IDLE = 100

io.stdout:setvbuf "line"

local host = sproto.new(proto.s2c):host "package"
local make_request = host:attach(sproto.new(proto.c2s))
local fd = assert(socket.connect(HOST, PORT))

local session = 0

local function send_request(name, args)
	session = session + 1
	socket.send(fd, string.pack(">s2", make_request(name, args, session)))
	print("Request:", session)
end

local function print_package(kind, ...)
	if kind == "REQUEST" then
		print("REQUEST", (...))
		return
	end
	local number, fields = ...
	print("RESPONSE", number)
	for key, value in pairs(fields or {}) do
		print(key, value)
	end
end

-- The first whole package of `text` and the rest, or nil.
local function cut_package(text)
	if #text < 2 then
		return nil, text
	end
	local size = string.unpack(">I2", text)
	if #text < size + 2 then
		return nil, text
	end
	return text:sub(3, 2 + size), text:sub(3 + size)
end

local received = ""

-- Print what the server sent since the last time.
local function receive()
	while true do
		local package
		package, received = cut_package(received)
		if package then
			print_package(host:dispatch(package))
		else
			local data = socket.recv(fd)
			if not data then
				return
			elseif data == "" then
				io.stderr:write "Server closed\n"
				os.exit(false)
			end
			received = received .. data
		end
	end
end

-- Whether `quit` was sent because the input ended.
local leaving = false

send_request "handshake"
send_request("set", { what = "hello", value = "world" })
while true do
	receive()
	local line = socket.readstdin()
	if line == "quit" then
		send_request "quit"
	elseif line and line ~= "" then
		send_request("get", { what = line })
	elseif not leaving and socket.stdin_ended() then
		leaving = true
		send_request "quit"
	else
		socket.usleep(IDLE)
	end
end
