-- skynet.datasheet.service: the main function of the service behind datasheets.
-- Owns the present document of each name; a builder may exit.

local skynet = require "skynet"
local core = require "skynet.sharedata.core"
local new_publisher = require "skynet.sharedata.publisher"

local publisher = new_publisher()

-- Replaced documents that may still be read: id -> name.
local outdated = {}

local command = {}

local function references(id)
	local ok, n = pcall(core.host_getref, id)
	return ok and n or nil
end

local function prune()
	for id in pairs(outdated) do
		if not references(id) then
			outdated[id] = nil
		end
	end
end

function command.update(_, name, id)
	local document = core.adopt(id) or error("no such document", 0)
	local before = publisher:query(name)
	if before then
		outdated[before] = name
	end
	publisher:publish(name, document)
	prune()
	skynet.ret()
end

function command.query(_, name)
	local id = publisher:query(name)
	if not id then
		error(string.format("no datasheet '%s', create data first", tostring(name)), 0)
	end
	skynet.retpack(id)
end

function command.monitor(source, name, id)
	publisher:monitor(name, id, source)
end

-- Nobody needs to tell what he no longer reads: see lua-share.h.
function command.release()
	skynet.ignoreret()
end

-- A reader is gone.
function command.close(source)
	publisher:forget(source)
	skynet.ignoreret()
end

-- The bytes are not the builder's, so there is nothing to wait for.
function command.collect()
	skynet.ret()
end

skynet.start(function()
	skynet.info_func(function()
		prune()
		local info = publisher:info()
		for id in pairs(outdated) do
			info[tostring(id)] = references(id)
		end
		return info
	end)
	-- A farewell is said once.
	skynet._repeat "lua"
	skynet.dispatch("lua", function(_, source, cmd, ...)
		local f = command[cmd] or error("Invalid command " .. tostring(cmd), 0)
		f(source, ...)
	end)
end)
