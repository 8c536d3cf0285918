-- gated: the gate of the example's game server. Owns one agent per player who is logged
-- in; requests go to the agent as they are, and so do its answers back.

local skynet = require "skynet"
local msgserver = require "snax.msgserver"

local logind = math.tointeger(tonumber((...)))
local servername
local last_subid = 0
-- uid -> player { agent, uid, subid, username }, and the same by user name.
local players = {}
local by_name = {}

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
}

local handler = {}

function handler.login_handler(uid, secret)
	if players[uid] then
		error(string.format("%s is already login", uid), 0)
	end
	last_subid = last_subid + 1
	local subid = tostring(last_subid)
	local player = {
		uid = uid,
		subid = subid,
		username = msgserver.username(uid, subid, servername),
		agent = skynet.newservice "msgagent",
	}
	skynet.call(player.agent, "lua", "login", skynet.self(), uid, subid)
	players[uid] = player
	by_name[player.username] = player
	msgserver.login(player.username, secret)
	return subid
end

-- The agent asks for it.
function handler.logout_handler(uid, subid)
	local player = players[uid]
	if player and player.subid == tostring(subid) then
		msgserver.logout(player.username)
		players[uid] = nil
		by_name[player.username] = nil
		skynet.call(logind, "lua", "logout", uid, subid)
	end
end

-- The login server asks for it; the agent may be gone by then.
function handler.kick_handler(uid, subid)
	local player = players[uid]
	if player and player.subid == tostring(subid) then
		pcall(skynet.call, player.agent, "lua", "logout")
	end
end

function handler.disconnect_handler(username)
	local player = by_name[username]
	if player then
		skynet.call(player.agent, "lua", "afk")
	end
end

function handler.request_handler(username, msg)
	local player = by_name[username] or error("unknown user", 0)
	return skynet.tostring(skynet.rawcall(player.agent, "client", msg))
end

function handler.register_handler(name)
	servername = name
	skynet.call(logind, "lua", "register_gate", name, skynet.self())
end

msgserver.start(handler)
