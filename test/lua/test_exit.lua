-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- How a service ends: exit, monitor, links, shutdown.

local skynet = require "skynet"
require "skynet.manager"
local core = require "skynet.core"
local test = require "testlib"
local rt = require "rt"

test.case("exit: close handlers run, requesters fail, the rest never runs", function()
	local other = rt.agent()
	local from = rt.mark()
	local deferred = rt.start(rt.run, other, "SHARED.r = skynet.response()")
	local sleeping = rt.start(rt.run, other, [[
		local _ <close> = setmetatable({}, { __close = function()
			skynet.error "close handler of the sleeper"
		end })
		skynet.sleep(100000)
	]])
	rt.run(other, "skynet.ret()")
	local exiting = rt.start(rt.run, other, [[
		local _ <close> = setmetatable({}, { __close = function()
			skynet.error "close handler of the caller of exit"
		end })
		skynet.fork(function() skynet.error "fork ran" end)
		skynet.timeout(0, function() skynet.error "timer ran" end)
		skynet.exit()
		skynet.error "statement after exit"
	]])
	local queued = rt.start(rt.run, other, "skynet.ret()")
	for _, r in ipairs { deferred, sleeping, exiting, queued } do
		local ok, err = rt.join(r)
		test.eq(ok, false)
		test.ok(err:find "call failed$" or err:find "call to invalid address", err)
	end
	rt.wait_gone(other)
	rt.logged("close handler of the caller of exit", from)
	local lines = rt.lines("^%[" .. skynet.address(other), from)
	local order = {}
	for i, line in ipairs(lines) do
		order[#order + 1] = line:match "close handler of.*" or line:match "KILL self" or ("other: " .. lines[i])
	end
	test.eq(order, {
		"close handler of the sleeper", "KILL self", "close handler of the caller of exit",
	})
	test.err(function() rt.run(other, "") end, "call to invalid address")
end)

test.case("exit closes tasks in every state", function()
	local from = rt.mark()
	local other = rt.agent()
	rt.tell(other, [[
		local function guard(what)
			return setmetatable({}, { __close = function() skynet.error("closed " .. what) end })
		end
		skynet.fork(function() local _ <close> = guard "wait" skynet.wait() end)
		skynet.fork(function() local _ <close> = guard "call" skynet.call(source, "lua", "hold") end)
		skynet.fork(function() local _ <close> = guard "parked" coroutine.yield() end)
		skynet.fork(function()
			local sc = require "skynet.coroutine"
			sc.resume(sc.create(function() local _ <close> = guard "inner" skynet.wait() end))
		end)
		skynet.yield()
		skynet.exit()
	]])
	rt.wait_gone(other)
	for _, what in ipairs { "wait", "call", "parked", "inner" } do
		rt.logged("closed " .. what, from)
	end
end)

test.case("close handlers may use the framework, but not block", function()
	local from = rt.mark()
	local other = rt.agent()
	rt.tell(other, [[
		skynet.fork(function()
			local _ <close> = setmetatable({}, { __close = function()
				skynet.fork(print)
				skynet.timeout(0, print)
				skynet.error("blocking: " .. tostring(pcall(skynet.sleep, 1)))
			end })
			skynet.wait()
		end)
		skynet.yield()
		skynet.exit()
	]])
	rt.wait_gone(other)
	rt.logged("blocking: false", from)
end)

test.case("exit tells those who owe it answers", function()
	local owner, other = rt.agent(), rt.agent()
	rt.tell(other, [[
		skynet.fork(skynet.call, select(3, ...), "lua", "SHARED.r = require 'skynet'.response()")
		skynet.sleep(3)
		skynet.exit()
	]], owner)
	rt.wait_gone(other)
	test.wait_for(function()
		return rt.run(owner, "skynet.retpack(SHARED.r and SHARED.r 'TEST')") == false
	end)
	skynet.kill(owner)
end)

test.case("a message to a service that has exited is answered with ERROR", function()
	for _ = 1, 20 do
		local other = rt.agent()
		local list = {}
		rt.tell(other, "skynet.exit()")
		for i = 1, 20 do
			list[i] = rt.start(rt.run, other, "skynet.ret()")
		end
		for i = 1, 20 do
			test.eq(rt.join(list[i]), false)
		end
	end
end)

test.case("debug LINK fails when the service ends", function()
	local other = rt.agent()
	local r = rt.start(skynet.call, other, "debug", "LINK")
	skynet.call(other, "debug", "PING")
	rt.run(other, "collectgarbage() collectgarbage() skynet.ret()")
	test.ok(not r.done)
	skynet.send(other, "debug", "EXIT")
	local ok, err = rt.join(r)
	test.eq(ok, false)
	test.match(err, "call failed$")
end)

test.case("debug EXIT ends a service and fails its caller", function()
	local other = rt.agent()
	rt.call_failed(skynet.call, other, "debug", "EXIT")
	rt.wait_gone(other)
end)

test.case("on_shutdown functions run in order, then the service exits", function()
	local other = rt.agent()
	local from = rt.mark()
	rt.run(other, [[
		skynet.on_shutdown(function() skynet.sleep(1) skynet.error "hook 1" end)
		skynet.on_shutdown(function() error "hook 2 fails" end)
		skynet.on_shutdown(function() skynet.error "hook 3" end)
		-- Message `probe` is handled as if the kernel had sent it as type SYSTEM.
		skynet.register_protocol {
			name = "probe", id = 99,
			unpack = function(...) return ... end,
			dispatch = function(_, _, msg, size)
				skynet.dispatch_message(skynet.PTYPE_SYSTEM, msg, size, 0, 0)
			end,
		}
		skynet.ret()
	]])
	skynet.register_protocol { name = "system", id = skynet.PTYPE_SYSTEM }
	skynet.register_protocol { name = "probe", id = 99 }
	-- Only the kernel may ask for it.
	skynet.rawsend(other, "system", "shutdown")
	skynet.rawsend(other, "probe", "shut")
	rt.run(other, "skynet.ret()")
	test.eq(rt.lines("%] hook %d", from), {})
	skynet.rawsend(other, "probe", "shutdown")
	rt.wait_gone(other)
	local seen = {}
	for _, line in ipairs(rt.lines("^%[" .. skynet.address(other) .. "%]", from)) do
		seen[#seen + 1] = line:match "hook %d" or line:match "KILL self"
	end
	test.eq(seen, { "hook 1", "hook 2", "hook 3", "KILL self" })
end)

test.case("a service with a handler for type SYSTEM gets the message itself", function()
	local other = rt.agent()
	rt.run(other, [[
		skynet.register_protocol {
			name = "system", id = skynet.PTYPE_SYSTEM, unpack = skynet.tostring,
			dispatch = function(_, from, text) SHARED.system = { from, text } end,
		}
		skynet.ret()
	]])
	skynet.rawsend(other, "system", "shutdown")
	test.eq(rt.run(other, "skynet.retpack(SHARED.system)"), { skynet.self(), "shutdown" })
	skynet.kill(other)
end)

test.case("a monitor hears of every death", function()
	local handle = skynet.monitor "rt_monitor"
	local other = rt.agent()
	test.eq(skynet.call(handle, "lua", "watch", other), true)
	local r = rt.start(rt.run, other, "skynet.wait()")
	rt.run(other, "skynet.ret()")
	skynet.kill(other)
	test.eq(rt.join(r), false)
	test.wait_for(function() return skynet.call(handle, "lua", "watch", other) == false end)
end)

test.run()
