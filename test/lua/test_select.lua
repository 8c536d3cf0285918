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

-- Keeps the answers of six numbers, and gives them in their order when all are there.
local SORTED = [[
	local skynet = require "skynet"
	local n = select(3, ...)
	SHARED[n] = skynet.response()
	if #SHARED == 6 then
		for i = 1, 6 do SHARED[i](true, i) end
	end
]]

test.case("answers come in the order of completion", function()
	agent = rt.agent()
	local set = skynet.request()
	for i = 6, 1, -1 do
		set:add { agent, "lua", SORTED, i }
	end
	local order = {}
	for req, resp in set:select() do
		test.eq(req[4], resp[1])
		order[#order + 1] = resp[1]
	end
	test.eq(order, { 1, 2, 3, 4, 5, 6 })
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

-- An answer that comes when LATE_NOW is run.
local LATE = [[
	local skynet = require "skynet"
	SHARED.late = SHARED.late or {}
	table.insert(SHARED.late, skynet.response())
]]
local LATE_NOW = [[
	for _, respond in ipairs(SHARED.late) do respond(true, "late") end
	SHARED.late = nil
	skynet.ret()
]]

test.case("a time limit ends the loop, late answers are swallowed", function()
	local from = rt.mark()
	local set = skynet.request()
	for _ = 1, 3 do
		set { agent, "lua", LATE } (delayed(0))
	end
	local n = 0
	-- Long enough for the others, however busy the machine is.
	for req, resp in set:select(200) do
		test.eq({ req[4], resp[1] }, { 0, 0 })
		n = n + 1
	end
	test.eq(n, 3)
	test.eq(set.timeout, true)
	rt.run(agent, LATE_NOW)
	skynet.yield()
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
	local set = skynet.request(delayed(0, "garbage"))(delayed(2, "good"))
	for _, resp in set:select(6000) do
		seen[#seen + 1] = resp and resp[2]
	end
	test.eq(seen, { false, "good" })
	test.eq(set.timeout, nil)
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
	for _, resp in set:select(6000) do
		n = n + 1
		failed = failed + (resp == false and 1 or 0)
	end
	test.eq({ n, failed }, { 2, 1 })
	test.eq(set.timeout, nil)
end)

test.case("an empty set ends at once, also with a limit", function()
	for _ in skynet.request():select() do error "no" end
	local set = skynet.request()
	for _ in set:select(100) do error "no" end
	test.eq(set.timeout, nil)
end)

test.case("leaving early cancels the rest", function()
	local from = rt.mark()
	-- The limits pass behind the loops.
	local limit, begun = 200, 0
	for _ in skynet.request(delayed(0)) { agent, "lua", LATE } :select(limit) do
		begun = begun + 1
		break
	end
	local ok, err = pcall(function()
		for _ in skynet.request(delayed(0)) { agent, "lua", LATE } :select(limit) do
			error "out"
		end
	end)
	test.eq({ begun, ok }, { 1, false })
	test.match(err, "out$")
	rt.run(agent, LATE_NOW)
	skynet.sleep(limit + 1)
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
