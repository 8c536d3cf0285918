-- Changes the libraries of its VM and its table `skynet`, and tells what they look like.
-- The argument is how many kilobytes of garbage the main chunk makes.

local skynet = require "skynet"

local litter = tonumber((...)) or 0
for i = 1, litter do
	local _ = { ("x"):rep(1000) .. i }
end

local command = {}

function command.change()
	string.upper = nil
	string.mine, math.mine, io.mine, package.mine = 1, 2, 3, 4
	getmetatable("").__index = setmetatable({ shout = function(s) return s .. "!" end }, { __index = string })
	for i = 1, 100 do
		table["k" .. i] = i
	end
	_G.own_global = {}
	for k in pairs(utf8) do
		utf8[k] = nil
	end
	collectgarbage()
	collectgarbage "incremental"
	collectgarbage()
	return ("x"):shout(), table.k77, next(utf8)
end

-- Names of everything in the libraries, sorted.
function command.names()
	local names = {}
	for _, lib in ipairs { "string", "table", "math", "io", "os", "utf8", "coroutine", "debug", "package" } do
		for k, v in pairs(_G[lib]) do
			names[#names + 1] = lib .. "." .. k .. " " .. type(v)
		end
	end
	table.sort(names)
	return table.concat(names, "\n")
end

function command.random()
	return math.random(0), math.random(0)
end

-- Has what the loader leaves, and the modes that a script may choose.
function command.collector(...)
	return collectgarbage(...)
end

function command.mode()
	local before = collectgarbage "incremental"
	return before, collectgarbage "generational"
end

-- What skynet.manager changes in `skynet`.
function command.manager()
	local before = skynet.launch
	local manager = require "skynet.manager"
	local names = {}
	for k, v in pairs(skynet) do
		names[k] = type(v)
	end
	return {
		before = before,
		is_skynet = manager == skynet and skynet == require "skynet.task",
		launch = type(skynet.launch),
		same = skynet.launch == manager.launch,
		listed = names.forward_type,
		other = manager.no_such_function,
		where = select(2, pcall(skynet.name, ":wrong", skynet.self())),
	}
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		if cmd == "quit" then
			skynet.exit()
		end
		skynet.retpack(command[cmd](...))
	end)
end)
