-- oom_msgserver: a message server for test_oom_login.lua, whose one user asks for what he says.

local skynet = require "skynet"
local msgserver = require "snax.msgserver"

local function username(uid, subid)
	return msgserver.username(uid, subid, "oom")
end

msgserver.start {
	login_handler = function(uid, secret)
		msgserver.login(username(uid, 1), secret)
		return 1
	end,
	logout_handler = function(uid) msgserver.logout(username(uid, 1)) end,
	kick_handler = function() end,
	request_handler = function(_, text)
		skynet.yield()
		return text .. "!"
	end,
	register_handler = function(_, address, port) return address, port end,
	max_pending = 8,
}
