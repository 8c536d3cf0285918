-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- skynet.mqueue: requests handled one at a time.

local skynet = require "skynet"
require "skynet.manager"
local mqueue = require "skynet.mqueue"
local test = require "testlib"
local rt = require "rt"

local h

test.case("a request waits until the one before it is done", function()
	h = skynet.newservice "rt_mqueue"
	local from = rt.mark()
	local first = rt.start(mqueue.call, h, "wait")
	local second = rt.start(mqueue.call, h, "ret", 1, nil, 3)
	skynet.yield()
	test.eq(skynet.call(h, "lua"), 1)
	test.ok(not second.done)
	skynet.call(h, "lua", "go")
	rt.join(first)
	test.eq(table.pack(rt.join(second)), { true, "ret", 1, nil, 3, n = 5 })
	test.eq(skynet.call(h, "lua"), 0)
	test.eq(rt.lines("Maybe forgot", from), {})
end)

test.case("errors travel to the caller with their text", function()
	local ok, err = pcall(mqueue.call, h, "err")
	test.eq(ok, false)
	test.match(err, "err fails on purpose")
	test.eq({ mqueue.call(h, "ret") }, { "ret" })
end)

test.case("results and errors of a send are logged, and the next is handled", function()
	local from = rt.mark()
	mqueue.send(h, "ret", 1)
	mqueue.send(h, "err")
	test.eq({ mqueue.call(h, "ret", 2) }, { "ret", 2 })
	rt.logged("mqueue: message from .* its result is lost: ret", from)
	rt.logged("mqueue: message from .* failed: .*err fails on purpose", from)
end)

test.case("a handler is registered once", function()
	test.err(function() mqueue.register {} end,
		"bad argument #1 to 'mqueue.register' (function expected, got table): assertion failed!")
	mqueue.register(print)
	test.err(function() mqueue.register(print) end, "assertion failed!")
	test.eq(mqueue.size(), 0)
end)

test.run()
