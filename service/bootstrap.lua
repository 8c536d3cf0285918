-- bootstrap: the first Lua service. Starts the system services in the order
-- other services rely on, then the user's start script, then leaves.
-- A failure before the start script ends the node with status 1. A failing
-- start script ends it too when the config says `start_failure = "abort"`;
-- by default the node stays up, so that the debug console remains usable.

local skynet = require "skynet"
require "skynet.manager"
-- A start that fails needs it: a lua_path that does not lead to it ends the node here.
require "skynet.hooks"

-- Exit status of a node whose bootstrap failed.
local EXIT_FAILURE = "1"

local function abort_node(reason)
	skynet.error("bootstrap: " .. reason)
	-- The parameter of ABORT becomes the exit status of the process.
	require "skynet.core".command("ABORT", EXIT_FAILURE)
end

local function launch_system()
	local launcher = assert(skynet.launch("snlua", "launcher"), "can't launch launcher")
	skynet.name(".launcher", launcher)

	local harbor = tonumber(skynet.getenv "harbor" or 0)
	if harbor ~= 0 then
		error(string.format("harbor = %s: this version runs single nodes only, set harbor = 0",
			skynet.getenv "harbor"), 0)
	end
	if skynet.getenv "standalone" then
		error("standalone must be absent when harbor = 0", 0)
	end
	skynet.setenv("standalone", "true")
	local slave = assert(skynet.newservice "cdummy", "cdummy exited")
	skynet.name(".cslave", slave)
	local datacenter = assert(skynet.newservice "datacenterd", "datacenterd exited")
	skynet.name("DATACENTER", datacenter)
	assert(skynet.newservice "service_mgr", "service_mgr exited")
	if skynet.getenv "enablessl" == "true" then
		require "skynet.service".new("ltls_holder", function()
			local c = require "ltls.init.c"
			c.constructor()
		end)
	end
end

local function launch_user()
	local start = skynet.getenv "start" or "main"
	-- As skynet.newservice, whose error would begin with a line of this file.
	local ok, err = pcall(skynet.call, ".launcher", "lua", "LAUNCH", "snlua", start)
	if ok then
		return
	end
	local reason = string.format("start script '%s' failed: %s", start, err)
	if skynet.getenv "start_failure" == "abort" then
		abort_node(reason)
	else
		skynet.error("bootstrap: " .. reason .. " (the node stays up)")
	end
end

skynet.start(function()
	local ok, err = pcall(launch_system)
	if ok then
		launch_user()
	else
		abort_node(tostring(err))
	end
	skynet.exit()
end)
