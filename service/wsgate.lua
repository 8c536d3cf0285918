-- wsgate: a wsgateserver that hands messages to an agent per connection, or to one
-- watchdog, as snax.gateagents says; what service/gate.lua is for TCP. Agents answer with
-- snax.wsgate. `kick` takes a code of RFC 6455 7.4 and a reason.

local skynet = require "skynet"
local wsgateserver = require "snax.wsgateserver"
local gateagents = require "snax.gateagents"

-- RFC 6455 7.4.1: the server cannot fulfil the request.
local UNEXPECTED_CONDITION = 1011

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
}

wsgateserver.start(gateagents("wsgate", wsgateserver, UNEXPECTED_CONDITION))
