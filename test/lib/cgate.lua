-- cgate: this service as the watchdog of a gate in C, which answers each package of its clients.

local skynet = require "skynet.manager"
local core = require "skynet.core"

---Launch one. It knows this service by a name, and speaks to it in texts.
---@param name string for this service, with its dot
---@param arguments string of the gate, behind the watchdog: where it listens, and so on
---@param answer fun(text: string): string
return function(name, arguments, answer)
	local gate
	skynet.register_protocol {
		name = "text",
		id = skynet.PTYPE_TEXT,
		unpack = skynet.tostring,
		dispatch = function(_, _, text)
			skynet.ignoreret() -- the session is the fd
			local fd, what, rest = text:match "^(%d+) (%a+) ?(.*)"
			if what == "open" then
				core.send(gate, skynet.PTYPE_TEXT, 0, "start " .. fd)
			elseif what == "data" then
				core.send(gate, skynet.PTYPE_CLIENT, 0, string.pack(">s2<I4", answer(rest), fd))
			end
		end,
	}
	skynet.register(name)
	gate = skynet.launch("gate", "S " .. name .. " " .. arguments)
end
