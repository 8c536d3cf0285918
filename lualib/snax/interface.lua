-- snax.interface: reads a snax type file, that is runs it in an environment
-- which notes the definitions of accept.*, response.* and the system functions.
-- Used by the service itself, by clients (to learn the method numbers) and by
-- hotfix (a patch is a type file). Owns nothing.

local skynet = require "skynet"

---@class snax.method
---@field id integer
---@field group "system"|"accept"|"response"
---@field name string
---@field func function?

local interface = {}

-- Their position is their method number.
local SYSTEM = { "init", "exit", "hotfix", "profile" }

-- Raises for the caller of the public function that calls this.
local function misuse(where, index, want, got)
	require "skynet.misuse"(where, index, want, got, 1)
end

-- A table that takes definitions of the form `function group.name(...)`.
local function definition_group(methods, group)
	local seen = {}
	return setmetatable({}, { __newindex = function(_, name, func)
		if type(name) ~= "string" then
			error(group .. " method only support string", 2)
		elseif type(func) ~= "function" then
			error(string.format("%s.%s must be function", group, name), 2)
		elseif seen[name] then
			error(string.format("%s.%s duplicate definition", group, name), 2)
		end
		seen[name] = true
		local id = #methods + 1
		methods[id] = { id = id, group = group, name = name, func = func }
	end })
end

---Run `main` (compiled with the environment `env`) and collect what it defines.
---Globals it sets stay in `env`. May yield if the chunk does.
---@param main function
---@param env table must not have a metatable
---@param base table? where names missing in env are looked up meanwhile
---@return snax.method[]
function interface.collect(main, env, base)
	if type(main) ~= "function" then
		misuse("interface.collect", 1, "function", main)
	elseif type(env) ~= "table" then
		misuse("interface.collect", 2, "table", env)
	end
	assert(getmetatable(env) == nil, "the environment has a metatable")
	for _, name in ipairs { "init", "exit", "accept", "response" } do
		assert(rawget(env, name) == nil, "the environment defines " .. name .. " already")
	end
	local methods, system = {}, {}
	for id, name in ipairs(SYSTEM) do
		system[name] = { id = id, group = "system", name = name }
		methods[id] = system[name]
	end
	env.accept = definition_group(methods, "accept")
	env.response = definition_group(methods, "response")
	setmetatable(env, { __index = base, __newindex = function(_, name, value)
		local method = system[name]
		if not method then
			rawset(env, name, value)
		elseif type(value) == "function" then
			method.func = value
		else
			error(name .. " must be a function", 2)
		end
	end })
	local ok, err = xpcall(main, debug.traceback)
	setmetatable(env, nil)
	env.accept, env.response = nil, nil
	if not ok then
		error(err, 0)
	end
	return methods
end

-- The default loader: the first pattern that gives a chunk.
local function load_file(path, name, env)
	local problems = {}
	for pattern in path:gmatch "[^;]+" do
		local filename = pattern:gsub("?", (name:gsub("%%", "%%%%")))
		local main, err = loadfile(filename, "bt", env)
		if main then
			return main, pattern
		end
		problems[#problems + 1] = err
	end
	error(table.concat(problems, "\n"), 0)
end

---Load the type file `name` found through the config key `snax`.
---@param name string
---@param env table
---@param base table?
---@param loader (fun(path: string, name: string, env: table): function, string)?
---@return snax.method[] methods
---@return string pattern the one that led to the file
function interface.load(name, env, base, loader)
	if type(name) ~= "string" then
		misuse("interface.load", 1, "name of a snax type", name)
	elseif type(env) ~= "table" then
		misuse("interface.load", 2, "table", env)
	end
	local path = skynet.getenv "snax" or error("please set snax in config file", 0)
	local main, pattern = (loader or load_file)(path, name, env)
	return interface.collect(main, env, base), pattern
end

-- What `require` gives in a client: a thing that survives whatever the top
-- level of a type file does with a module.
local placeholder = {}
local function give_placeholder() return placeholder end
setmetatable(placeholder, {
	__index = function(_, key)
		-- No numbers: ipairs over it must end.
		return type(key) == "string" and placeholder or nil
	end,
	__newindex = function() end,
	__call = give_placeholder,
	__len = function() return 0 end,
	__pairs = function() return next, {} end,
	__close = function() end,
	__concat = function() return "" end,
})

-- The names a type file may use at its top level in a client: nothing that
-- could touch the client service.
local function client_base()
	local module = skynet.getenv "snax_interface_g"
	if module then
		return require(module)
	end
	return {
		require = give_placeholder,
		assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs,
		pcall = pcall, rawget = rawget, rawset = rawset, select = select,
		setmetatable = setmetatable, getmetatable = getmetatable, tonumber = tonumber,
		tostring = tostring, type = type, xpcall = xpcall, _VERSION = _VERSION,
		math = math, string = string, table = table, utf8 = utf8, coroutine = coroutine,
	}
end

---The methods of a type as a client sees them. Each type gets an environment
---of its own, so that types can't see each other's globals.
---@param name string
---@return snax.method[]
function interface.client(name)
	if type(name) ~= "string" then
		misuse("interface.client", 1, "name of a snax type", name)
	end
	local base = client_base()
	local env = {}
	return (interface.load(name, env, base))
end

---One text for the order of the methods: equal on both sides if, and only if,
---both use the same numbers.
---@param methods snax.method[]
---@return string
function interface.signature(methods)
	if type(methods) ~= "table" then
		misuse("interface.signature", 1, "list of methods", methods)
	end
	local words = {}
	for id, method in ipairs(methods) do
		words[id] = method.group .. "." .. method.name
	end
	return table.concat(words, " ")
end

return interface
