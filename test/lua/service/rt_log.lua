-- Log service of the runtime tests: keeps every line and answers questions about
-- them. A line is "<handle> text".

local skynet = require "skynet"

local lines = {}

skynet.register_protocol {
	name = "text",
	id = skynet.PTYPE_TEXT,
	unpack = skynet.tostring,
	dispatch = function(_, source, text)
		lines[#lines + 1] = string.format("[:%08x] %s", source, text or "")
		-- One piece: other services print as well.
		io.stdout:write(lines[#lines] .. "\n")
		io.stdout:flush()
	end,
}

skynet.register_protocol {
	name = "system",
	id = skynet.PTYPE_SYSTEM,
	unpack = function() end,
	dispatch = function() end,
}

local command = {}

-- All lines from number `from` on that match the pattern.
function command.grep(pattern, from)
	local found = {}
	for i = from or 1, #lines do
		if lines[i]:find(pattern) then
			found[#found + 1] = lines[i]
		end
	end
	return found
end

function command.count()
	return #lines
end

-- Here and not in start(): whoever asks first may do so before that has run.
skynet.dispatch("lua", function(_, _, cmd, ...)
	skynet.retpack(command[cmd](...))
end)

skynet.start(function() end)
