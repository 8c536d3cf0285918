-- Login and message servers whose allocations fail, each in its turn: a client gets an answer
-- or its connection ends, and can begin again.

local skynet = require "skynet"
local crypt = require "skynet.crypt"
local socket = require "skynet.socket"
local oom = require "oom"
local sockets = require "sockets"
local test = require "testlib"

-- Either an answer or the end of a connection comes: only bounds a failure, 1/100 s.
local PATIENCE = 3000

local b64encode, b64decode = crypt.base64encode, crypt.base64decode

local function sweep(handle, exchange, check)
	oom.sweep { handle = handle, exchange = exchange, check = check, burst = 3, slack = 128 }
end

-- What a read gave: raises after an end, and complains when there is none.
local function got(data, why)
	if data == nil and why == "timeout" then
		oom.complain("neither an answer nor an end: %s", debug.traceback():gsub("\n%s*", " < "))
	end
	return data or error("the connection has ended", 2)
end

------------------------------------------------------------------------- login

-- The result line.
local function log_in(id)
	local function read() return (got(socket.readline(id, "\n", PATIENCE))) end
	local challenge = b64decode(read())
	local key = crypt.randomkey()
	socket.write(id, b64encode(crypt.dhexchange(key)) .. "\n")
	local secret = crypt.dhsecret(b64decode(read()), key)
	socket.write(id, b64encode(crypt.hmac64(challenge, secret)) .. "\n")
	socket.write(id, b64encode(crypt.desencode(secret, "a token")) .. "\n")
	local result = read()
	-- The server closes then.
	test.eq(socket.read(id, 1, PATIENCE), false)
	return result
end

local login, slave, login_port

-- Once, before anything fails.
local function find_login()
	local before = skynet.call(".launcher", "lua", "LIST")
	login = skynet.newservice "oom_login"
	for address in pairs(skynet.call(".launcher", "lua", "LIST")) do
		local handle = tonumber(address:sub(2), 16)
		if not before[address] and handle ~= login then
			slave = handle
		end
	end
	login_port = oom.port_of(login)
	oom.watch(login)
	oom.watch(slave)
end

local function login_once()
	test.eq(sockets.connected(login_port, log_in), "200 " .. b64encode "subid")
end

local function login_well()
	login_once()
	-- As long as it lives a slave is not replaced.
	local list = skynet.call(".launcher", "lua", "LIST")
	for address, words in pairs(list) do
		local handle = tonumber(address:sub(2), 16)
		test.ok(words ~= "snlua oom_login" or handle == login or handle == slave, "one too many")
	end
	test.ok(list[skynet.address(slave)], "the slave is gone")
end

test.case("a login server, the master", function()
	find_login()
	sweep(login, login_once, login_well)
end)

test.case("a login server, a slave", function() sweep(slave, login_once, login_well) end)

---------------------------------------------------------------------- messages

local SECRET = "12345678"
local USER = string.format("%s@%s#%s", b64encode "uid", b64encode "oom", b64encode "1")

local function say(id, text) socket.write(id, string.pack(">s2", text)) end

local function hear(id)
	local n = string.unpack(">I2", (got(socket.read(id, 2, PATIENCE))))
	return (got(socket.read(id, n, PATIENCE)))
end

local index

local function greet(id)
	index = index + 1
	local text = USER .. ":" .. index
	say(id, text .. ":" .. b64encode(crypt.hmac_hash(SECRET, text)))
	return hear(id)
end

-- One request after the other. Those from `first` on; returns the answers by number.
local function ask(id, first, last)
	test.eq(greet(id), "200 OK")
	for i = first, last do
		say(id, "ask" .. string.pack(">I4", i))
		test.eq(hear(id), "ask!" .. string.pack(">I1I4", 1, i))
	end
end

test.case("a message server", function()
	local server = oom.newservice "oom_msgserver"
	local _, port = skynet.call(server, "lua", "open", {
		address = "127.0.0.1", port = 0, servername = "oom", maxclient = 8,
	})

	local function exchange()
		index = 0
		skynet.call(server, "lua", "login", "uid", SECRET)
		sockets.connected(port, ask, 1, 3)
		-- Again on another connection: as they were, and a new one.
		sockets.connected(port, ask, 2, 4)
		skynet.call(server, "lua", "logout", "uid")
	end

	-- Somebody whose connection has ended comes back and asks for what he has missed.
	local function come_back()
		skynet.call(server, "lua", "logout", "uid")
		skynet.call(server, "lua", "login", "uid", SECRET)
		index = 0
		sockets.connected(port, ask, 1, 3)
		skynet.call(server, "lua", "logout", "uid")
	end

	sweep(server, exchange, function()
		come_back()
		exchange()
	end)
end)

test.run()
