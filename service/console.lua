-- console: starts services named on standard input, one a line;
-- `snax type args...` starts a snax service. Ends quietly with the input.

local skynet = require "skynet"
local socket = require "skynet.socket"

-- A line longer than this is a mistake, not a command, bytes.
local LINE_LIMIT = 64 * 1024

local function execute(line)
	local words = {}
	for word in line:gmatch "%S+" do
		words[#words + 1] = word
	end
	if words[1] == "snax" then
		local snax = require "skynet.snax"
		pcall(snax.newservice, select(2, table.unpack(words)))
	elseif words[1] then
		pcall(skynet.newservice, line)
	end
end

-- Whether an open file has no more to read, as /dev/null; of a pipe that can't be told.
local function is_at_end(file)
	local at = file:seek()
	local size = at and file:seek "end"
	if at then
		file:seek("set", at)
	end
	return at ~= nil and at == size
end

local function read_lines()
	local stdin, why = socket.stdin()
	if not stdin then
		-- Such as a file, which can't be waited for.
		if not is_at_end(io.stdin) then
			skynet.error("console: can't read standard input: " .. why)
		end
		return
	end
	socket.limit(stdin, LINE_LIMIT)
	while true do
		local line = socket.readline(stdin, "\n")
		if not line then
			break
		end
		-- Launches of one console do not wait for each other.
		skynet.fork(execute, (line:gsub("\r$", "")))
	end
	socket.close(stdin)
end

skynet.start(function()
	skynet.fork(read_lines)
end)
