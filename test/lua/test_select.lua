-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- skynet.request: several requests at once.

local skynet = require "skynet"
require "skynet.manager"
local test = require "testlib"
local rt = require "rt"

local agent

local DELAY = [[
	local skynet = require "skynet"
	local _, _, ti, what = ...
	if ti > 0 then skynet.sleep(ti) end
	if what == "fail" then error "as asked" end
	if what == "garbage" then skynet.ret "\7" return end
	skynet.retpack(ti, select(4, ...))
]]

local function delayed(ti, ...)
	return { agent, "lua", DELAY, ti, ..., n = 4 + select("#", ...) }
end

test.case("answers come in the order of completion", function()
	agent = rt.agent()
	local set = skynet.request()
	for i = 6, 1, -1 do
		set:add(delayed(i * 2))
	end
	local order = {}
	for req, resp in set:select() do
		test.eq(req[4], resp[1])
		order[#order + 1] = resp[1]
	end
	test.eq(order, { 2, 4, 6, 8, 10, 12 })
	test.eq(set.timeout, nil)
end)

test.case("the set is called to add, fields of the user stay", function()
	local first = delayed(0, "first")
	first.tag = "mine"
	local n = 0
	for req, resp in skynet.request(first)(delayed(0, "second")):select() do
		n = n + 1
		if req.tag then
			test.eq(rawequal(req, first), true)
			test.eq(resp[2], "first")
		else
			test.eq(resp[2], "second")
		end
	end
	test.eq(n, 2)
end)

test.case("trailing nils are kept with n", function()
	local n
	local item = { agent, "lua", "require 'skynet'.retpack(select(3, ...))", 1, nil, nil, n = 6 }
	for _, resp in skynet.request(item):select() do
		n = resp.n
	end
	test.eq(n, 3)
end)

test.case("a time limit ends the loop, late answers are swallowed", function()
	local from = rt.mark()
	local set = skynet.request()
	for _ = 1, 3 do
		set(delayed(60))(delayed(0))
	end
	local n = 0
	for req, resp in set:select(40) do
		test.eq({ req[4], resp[1] }, { 0, 0 })
		n = n + 1
	end
	test.eq(n, 3)
	test.eq(set.timeout, true)
	skynet.sleep(40)
	rt.run(agent, "skynet.ret()")
	test.eq(rt.lines("Unknown session", from), {})
	test.eq(rt.lines("lua call", from), {})
end)

test.case("missing destinations first, a failing one false", function()
	local seen = {}
	for req, resp in skynet.request { 0xfffe, "lua" } { 0xffff, "lua" } (delayed(0, "fail")) (delayed(2, "good"))
		:select() do
		seen[#seen + 1] = { req[1], resp and resp[2] or resp }
	end
	test.eq(seen, { { 0xffff }, { 0xfffe }, { agent, false }, { agent, "good" } })
end)

test.case("an answer that cannot be unpacked counts as failed", function()
	local seen = {}
	local start = skynet.now()
	for _, resp in skynet.request(delayed(0, "garbage"))(delayed(2, "good")):select(500) do
		seen[#seen + 1] = resp and resp[2]
	end
	test.eq(seen, { false, "good" })
	test.ok(skynet.now() - start < 400)
end)

test.case("an answerer that exits fails what is left", function()
	local other = rt.agent()
	local set = skynet.request { other, "lua", "require 'skynet'.retpack(1)" }
	set { other, "lua", "require 'skynet'.wait()" }
	set { other, "lua", "require 'skynet'.wait()" }
	set { other, "lua", "require 'skynet'.sleep(2) require 'skynet'.exit()" }
	local good, bad = 0, 0
	for _, resp in set:select() do
		if resp then good = good + 1 else bad = bad + 1 end
	end
	test.eq({ good, bad }, { 1, 3 })
end)

test.case("a killed answerer fails what is left", function()
	local other = rt.agent()
	local set = skynet.request { other, "lua", "require 'skynet'.wait()" }
	set { agent, "lua", "require 'skynet.manager'.kill(select(3, ...)) require 'skynet'.ret()", other }
	-- On several workers the failure may be the first to come.
	local n, failed = 0, 0
	for _, resp in set:select(500) do
		n = n + 1
		failed = failed + (resp == false and 1 or 0)
	end
	test.eq({ n, failed }, { 2, 1 })
	test.eq(set.timeout, nil)
end)

test.case("an empty set ends at once, also with a limit", function()
	local start = skynet.now()
	for _ in skynet.request():select() do error "no" end
	for _ in skynet.request():select(100) do error "no" end
	test.ok(skynet.now() - start < 50)
end)

test.case("leaving early cancels the rest", function()
	local from = rt.mark()
	for _ in skynet.request(delayed(0))(delayed(3)):select(4) do
		break
	end
	local ok = pcall(function()
		for _ in skynet.request(delayed(0))(delayed(3)):select(4) do
			error "out"
		end
	end)
	test.eq(ok, false)
	skynet.sleep(8)
	test.eq(rt.lines("Unknown session", from), {})
	test.eq(rt.lines("lua call", from), {})
end)

test.case("the body may block", function()
	local n = 0
	for _ in skynet.request(delayed(0))(delayed(1))(delayed(2)):select() do
		skynet.sleep(4)
		n = n + 1
	end
	test.eq(n, 3)
end)

test.case("misuse raises", function()
	test.err(function() skynet.request():add(1) end, "assertion failed!")
	test.err(function() skynet.request { agent, "nosuch" } :select() end)
	test.err(function() skynet.request { agent, "response" } :select() end)
	local set = skynet.request()
	set:select()
	test.err(function() set:select() end, "assertion failed!")
	test.err(function() set:add {} end, "assertion failed!")
	skynet.request():close()
	set:close()
	set:close()
	-- What was sent before the bad item is cancelled.
	test.err(function() skynet.request(delayed(0)) { agent, "lua", print } :select() end, "Unsupport")
	skynet.sleep(2)
end)

test.run()
