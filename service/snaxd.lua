-- snaxd: hosts one snax service, `snaxd <type>`. Owns the methods of the type,
-- which a hotfix may replace, and their profile. The service answers to its
-- methods only between a successful init and exit; a failed init ends it.

local skynet = require "skynet"
local profile = require "skynet.profile"
local snax = require "skynet.snax"
local interface = require "snax.interface"
local hotfix = require "snax.hotfix"

local type_name = tostring(...)

local loader_path = skynet.getenv "snax_loader"
local loader = loader_path and assert(dofile(loader_path))
local methods, pattern = interface.load(type_name, _G, nil, loader)

-- Modules of a type lie in a folder of its name beside the type file.
local folder = pattern:match "^([^?]*)" .. type_name .. "/"
package.path = folder .. "?.lua;" .. package.path
_G.SERVICE_NAME = type_name
_G.SERVICE_PATH = folder

-- "new", "starting", "ready".
local state = "new"
-- Method name -> { count, time }.
local profile_table = {}

local function end_timing(entry, ok, ...)
	entry.time = entry.time + profile.stop()
	if not ok then
		error((...), 0)
	end
	return ...
end

-- Run a method and note its CPU time and call, failed or not.
local function timed(method, ...)
	local entry = profile_table[method.name]
	if not entry then
		entry = { count = 0, time = 0.0 }
		profile_table[method.name] = entry
	end
	entry.count = entry.count + 1
	profile.start()
	return end_timing(entry, xpcall(method.func, debug.traceback, ...))
end

local function init(method, ...)
	if method.func then
		method.func(...)
	end
	skynet.info_func(function() return profile_table end)
end

local function log_failure(err)
	skynet.error(string.format("init of snax service %s failed: %s", type_name, err))
end

local system = {}

function system.init(method, ...)
	if state ~= "new" then
		error("Already init", 0)
	end
	state = "starting"
	local ok, err = xpcall(init, debug.traceback, method, ...)
	if not ok then
		pcall(log_failure, err)
		skynet.exit()	-- the requester gets an error
	end
	state = "ready"
	skynet.ret()
end

function system.exit(method, ...)
	if state ~= "ready" then
		error("Never init", 0)
	end
	if method.func then
		method.func(...)
	end
	skynet.ret()
	skynet.exit()
end

function system.hotfix(_, source, ...)
	skynet.retpack(pcall(hotfix, methods, source, ...))
end

function system.profile()
	skynet.retpack(profile_table)
end

local function dispatch(_, _, id, ...)
	local method = methods[id]
	if not method then
		error(string.format("snax service %s has no method %s", type_name, tostring(id)), 0)
	elseif method.group == "system" then
		system[method.name](method, ...)
	elseif state ~= "ready" then
		error("Init first", 0)
	elseif method.group == "accept" then
		timed(method, ...)
	else
		skynet.retpack(timed(method, ...))
	end
end

---Accept the same messages under the protocol `lua`, as cluster calls come.
function snax.enablecluster()
	skynet.dispatch("lua", dispatch)
end

require "skynet.debug".reg_debugcmd("SNAXSIGNATURE", function()
	skynet.retpack(interface.signature(methods))
end)

skynet.start(function()
	skynet.dispatch("snax", dispatch)
end)
