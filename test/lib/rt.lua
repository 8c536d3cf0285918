-- rt: helpers of the runtime tests. A test that reads the log starts with
--   -- config: logservice = "snlua"
--   -- config: logger = "rt_log"

local skynet = require "skynet"
local test = require "testlib"

local rt = {}

local LOG = 1

-- Code that every agent chunk starts with.
local PRELUDE = [[
local session, source = ...
local skynet = require "skynet"
]]

---A new agent service.
function rt.agent()
	return skynet.newservice "rt_agent"
end

---Run code in an agent and wait for what it answers. Yields.
function rt.run(agent, code, ...)
	return skynet.call(agent, "lua", PRELUDE .. code, ...)
end

---Run code in an agent that is not to answer.
function rt.tell(agent, code, ...)
	return skynet.send(agent, "lua", PRELUDE .. code, ...)
end

---Where the log is now, for `from` below. Yields.
function rt.mark()
	return skynet.call(LOG, "lua", "count") + 1
end

---Lines that match, from a mark on. Lines of this service are complete. Yields.
function rt.lines(pattern, from)
	return skynet.call(LOG, "lua", "grep", pattern, from)
end

---Wait for a line of any service. Yields.
function rt.logged(pattern, from)
	local found
	test.wait_for(function()
		found = rt.lines(pattern, from)[1]
		return found
	end, nil, "log line " .. pattern)
	return found
end

---Run f in a task of its own; returns a table that gets done, ok and results.
function rt.start(f, ...)
	local r = {}
	r.co = skynet.fork(function(...)
		r.list = table.pack(pcall(f, ...))
		r.ok, r.value = r.list[1], r.list[2]
		r.done = true
		skynet.wakeup(r)
	end, ...)
	return r
end

---The session that a task of rt.start waits for. Yields.
function rt.session(r)
	return test.wait_for(function() return skynet.task(r.co) end)
end

---Wait for a task of rt.start. Yields.
function rt.join(r)
	test.wait_for(function() return r.done end, nil, "a task")
	return table.unpack(r.list, 1, r.list.n)
end

---Assert that a call fails as a failed call does.
function rt.call_failed(f, ...)
	local ok, err = pcall(f, ...)
	test.eq(ok, false)
	test.match(err, "call failed$")
	return err
end

---Is the service gone? Yields.
function rt.wait_gone(handle)
	test.wait_for(function()
		return not require "skynet.core".alive(handle)
	end)
end

---The number of shared documents, once there is one for each name: readers of earlier
---cases end in their own time, with what they hold. `count` of core tells how many there
---are, `info` by name. Yields.
function rt.settled(core, info)
	local names
	test.wait_for(function()
		names = 0
		for _ in pairs(info()) do names = names + 1 end
		collectgarbage()
		return core.count() == names
	end, nil, "old documents to be freed")
	return names
end

return rt
