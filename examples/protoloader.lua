-- protoloader: compiles the two schemas once and puts them into the slots from
-- which the agents load them. It stays alive, being a unique service.

local skynet = require "skynet"
local sprotoloader = require "sprotoloader"
local proto = require "proto"

skynet.start(function()
	sprotoloader.save(proto.c2s, 1)
	sprotoloader.save(proto.s2c, 2)
end)
