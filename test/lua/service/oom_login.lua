-- oom_login: a login server for test_oom_login.lua, with one slave.

local skynet = require "skynet"
local loginserver = require "snax.loginserver"

loginserver {
	host = "127.0.0.1",
	port = 0,
	suite = "both",
	name = "oom_login",
	instance = 1,
	maxclient = 8,
	timeout = 1000,
	auth_handler = function(token)
		if token ~= "a token" then
			error "no such user"
		end
		return "oom", "uid"
	end,
	login_handler = function()
		skynet.yield()
		return "subid"
	end,
	command_handler = function() end,
}
