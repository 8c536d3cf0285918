-- One of the ten thousand services of test_many: answers, and calls others.

local skynet = require "skynet"

local command = {}

function command.echo(value)
	return value
end

-- Calls every address once with a value of its own; the number of right answers.
function command.burst(targets)
	local right = 0
	for i, addr in ipairs(targets) do
		if skynet.call(addr, "lua", "echo", i) == i then
			right = right + 1
		end
	end
	return right
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		skynet.retpack(command[cmd](...))
	end)
end)
