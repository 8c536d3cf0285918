-- logind: the login server of the example. Owns which game servers there are and who
-- plays where. A token is base64(user)@base64(server):base64(password), and the
-- password of everybody is `password`.

local skynet = require "skynet"
local crypt = require "skynet.crypt"
local loginserver = require "snax.loginserver"

-- Name of a game server -> its gate.
local servers = {}
-- uid -> { gate, subid } of who is online.
local online = {}

local function auth_handler(token)
	local user, server, password = token:match "^([^@]+)@([^:]+):(.+)$"
	assert(user, "Invalid token")
	user = crypt.base64decode(user)
	server = crypt.base64decode(server)
	password = crypt.base64decode(password)
	assert(crypt.equal(password, "password"), "Invalid password")
	return server, user
end

local function login_handler(server, uid, secret)
	print(string.format("%s@%s is login, secret is %s", uid, server, crypt.hexencode(secret)))
	local gate = servers[server] or error("Unknown server " .. server, 0)
	local last = online[uid]
	if last then
		skynet.call(last.gate, "lua", "kick", uid, last.subid)
	end
	if online[uid] then
		error(string.format("user %s is already online", uid), 0)
	end
	local subid = tostring(skynet.call(gate, "lua", "login", uid, secret))
	online[uid] = { gate = gate, subid = subid }
	return subid
end

local command = {}

function command.register_gate(server, gate)
	servers[server] = gate
end

function command.logout(uid, subid)
	local player = online[uid]
	if player and player.subid == tostring(subid) then
		print(string.format("%s is logout", uid))
		online[uid] = nil
	end
end

loginserver {
	host = "127.0.0.1",
	port = tonumber(skynet.getenv "login_port") or 8001,
	multilogin = false,
	name = "login_master",
	suite = skynet.getenv "login_suite",
	auth_handler = auth_handler,
	login_handler = login_handler,
	command_handler = function(name, ...)
		local f = command[name] or error("Invalid command " .. tostring(name), 0)
		return f(...)
	end,
}
