-- service_cell: an empty service that turns into the function it is sent
-- (skynet.service). Owns nothing beyond what that function makes.

local skynet = require "skynet"

local service_name = ...

local command = {}

-- Run the main function. It may set a lua dispatcher itself or inside the
-- function it passes to skynet.start, which is recorded, not started again.
function command.init(code, ...)
	local start_func
	function skynet.start(f)
		start_func = f
	end
	skynet.dispatch("lua", function()
		error "No dispatch function"
	end)
	local main = assert(load(code, "=" .. service_name))
	main(...)
	if start_func then
		start_func()
	end
	skynet.ret()
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		local f = command[cmd] or error("Invalid command " .. tostring(cmd), 0)
		f(...)
	end)
end)
