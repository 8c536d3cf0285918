-- gate: a gateserver that hands packages to an agent per connection, or to one
-- watchdog, as snax.gateagents says.

local skynet = require "skynet"
local gateserver = require "snax.gateserver"
local gateagents = require "snax.gateagents"

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
}

local handler = gateagents("gate", gateserver)
-- Nothing that `message` does yields or raises.
handler.direct = true

gateserver.start(handler)
