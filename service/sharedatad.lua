-- sharedatad: publishes the data of skynet.sharedata. A new version is complete
-- before it replaces the old one, so data that is refused changes nothing.

local skynet = require "skynet"
local core = require "skynet.sharedata.core"
local new_publisher = require "skynet.sharedata.publisher"

-- Data files are read again each time.
require "skynet.codecache".mode "OFF"

local publisher = new_publisher()

local command = {}

-- What a chunk makes: the table it returns, or the globals it sets.
local function run(chunk, env, ...)
	local result = chunk(...)
	return type(result) == "table" and result or env
end

local function make_table(name, v, ...)
	if v == nil then
		return {}
	elseif type(v) == "table" then
		return v
	elseif type(v) ~= "string" then
		error("Unknown data type " .. type(v), 0)
	end
	local env = setmetatable({}, { __index = _G })
	local chunk, err
	if v:byte() == 64 then -- "@"
		chunk, err = loadfile(v:sub(2), "bt", env)
	else
		chunk, err = load(v, "=" .. name, "bt", env)
	end
	return run(chunk or error(err, 0), env, ...)
end

local function check_name(name)
	if type(name) ~= "string" then
		error("the name of shared data is a string, not a " .. type(name), 0)
	end
end

local function refuse_existing(name)
	if publisher:has(name) then
		error("shared data '" .. name .. "' exists already", 0)
	end
end

function command.new(_, name, ...)
	check_name(name)
	refuse_existing(name)
	local document = core.new(make_table(name, ...))
	-- The chunk may have waited for something.
	refuse_existing(name)
	publisher:publish(name, document)
	skynet.ret()
end

function command.update(_, name, ...)
	check_name(name)
	publisher:publish(name, core.new(make_table(name, ...)))
	skynet.ret()
end

function command.delete(_, name)
	if not publisher:delete(name) then
		error("no shared data '" .. tostring(name) .. "'", 0)
	end
	skynet.ret()
end

function command.query(_, name)
	skynet.retpack(publisher:query(name) or error("no shared data '" .. tostring(name) .. "'", 0))
end

function command.monitor(source, name, id)
	publisher:monitor(name, id, source)
end

-- Readers need not tell what they have got: see lua-share.h.
function command.confirm()
	skynet.ignoreret()
end

-- A reader is gone.
function command.close(source)
	publisher:forget(source)
	skynet.ignoreret()
end

skynet.start(function()
	skynet.info_func(function()
		return publisher:info()
	end)
	-- A farewell is said once.
	skynet._repeat "lua"
	skynet.dispatch("lua", function(_, source, cmd, ...)
		local f = command[cmd] or error("Invalid command " .. tostring(cmd), 0)
		f(source, ...)
	end)
end)
