-- The collectors: weak tables, finalizers, modes, and a lot of garbage.
local test = dofile("../lib/langtest.lua")
local case, eq = test.case, test.eq

local function in_both_modes(name, body)
	for _, mode in ipairs({ "incremental", "generational" }) do
		case(name .. " (" .. mode .. ")", function()
			local before = collectgarbage(mode)
			body()
			collectgarbage(before)
		end)
	end
end

case("modes tell the previous one", function()
	local first = collectgarbage("incremental")
	eq(collectgarbage("generational"), "incremental")
	eq(collectgarbage("incremental"), "generational")
	collectgarbage(first)
	eq(collectgarbage("isrunning"), true)
	collectgarbage("stop")
	eq(collectgarbage("isrunning"), false)
	collectgarbage("restart")
	assert(collectgarbage("param", "pause") > 0)
	local old = collectgarbage("param", "stepmul", 300)
	eq(collectgarbage("param", "stepmul", old), 300)
	test.err("invalid option", collectgarbage, "nonsense")
end)

in_both_modes("weak values go, strings and numbers stay", function()
	local t = setmetatable({}, { __mode = "v" })
	for i = 1, 100 do
		t[i] = {}
		t["s" .. i] = "value" .. i
		t[-i] = i
	end
	local kept = {}
	t.kept = kept
	collectgarbage()
	collectgarbage()
	for i = 1, 100 do
		assert(t[i] == nil and t["s" .. i] == "value" .. i and t[-i] == i)
	end
	eq(t.kept, kept)
end)

in_both_modes("weak keys go with their ephemeron chains", function()
	local t = setmetatable({}, { __mode = "k" })
	local first = {}
	local k = first
	for _ = 1, 50 do
		local nextk = {}
		t[k] = nextk
		k = nextk
	end
	k = nil
	collectgarbage()
	local n, at = 0, first
	while at do
		n, at = n + 1, t[at]
	end
	eq(n, 51)
	first, at = nil, nil
	collectgarbage()
	collectgarbage()
	eq(next(t), nil)
end)

in_both_modes("all-weak tables lose either side", function()
	local t = setmetatable({}, { __mode = "kv" })
	local k, v = {}, {}
	t[k], t[{}], t[{ 1 }] = {}, v, {}
	t[k] = v
	collectgarbage()
	collectgarbage()
	eq(next(t), k)
	eq(t[k], v)
	eq(next(t, k), nil)
end)

in_both_modes("finalizers run once, in reverse order", function()
	local log = {}
	collectgarbage() -- or the collector may come by between the objects
	for i = 1, 5 do
		setmetatable({ i }, { __gc = function(o)
			log[#log + 1] = o[1]
		end })
	end
	collectgarbage()
	collectgarbage()
	eq(table.concat(log), "54321")
end)

in_both_modes("a finalizer can resurrect its object", function()
	local saved
	do
		local o = setmetatable({ name = "phoenix" }, { __gc = function(o)
			saved = o
		end })
		o.self = o
	end
	collectgarbage()
	collectgarbage()
	eq(saved.self.name, "phoenix")
	saved = nil
	collectgarbage()
end)

in_both_modes("an error in a finalizer does not reach the program", function()
	warn("@off")
	setmetatable({}, { __gc = function()
		error("ignored")
	end })
	collectgarbage()
	collectgarbage()
end)

in_both_modes("garbage does not pile up", function()
	collectgarbage()
	local before = collectgarbage("count")
	for i = 1, 200000 do
		local t = { i, tostring(i), { i } }
		t[3][2] = t
	end
	collectgarbage()
	assert(collectgarbage("count") < before + 200)
end)

in_both_modes("live data survives any number of cycles", function()
	local live, checksum = {}, 0
	for i = 1, 3000 do
		live[i] = { id = i, name = "n" .. i, f = function()
			return i
		end, co = i % 100 == 0 and coroutine.wrap(function()
			while true do
				coroutine.yield(i)
			end
		end) }
	end
	for round = 1, 30 do
		for i = round, 3000, 30 do
			live[i].link = live[(i * 7) % 3000 + 1]
			live[i].extra = { round, live[i] }
		end
		collectgarbage("step")
		for _ = 1, 300 do
			local _ = { {}, "x" .. round }
		end
	end
	collectgarbage()
	for i = 1, 3000 do
		local o = live[i]
		assert(o.id == i and o.name == "n" .. i and o.f() == i and o.extra[2] == o)
		if o.co then
			eq(o.co(), i)
		end
		checksum = checksum + o.link.id
	end
	eq(math.type(checksum), "integer")
end)

in_both_modes("old objects keep what is stored into them later", function()
	local old = { list = {} }
	collectgarbage()
	collectgarbage()
	for i = 1, 20000 do
		old.list[i % 100 + 1] = { i }
		old.up = function()
			return i
		end
		setmetatable(old.list, { __index = { i } })
	end
	collectgarbage("step")
	for i = 1, 100 do
		assert(old.list[i][1] > 19900 - 1)
	end
	eq(old.up(), 20000)
end)

case("steps finish a cycle in the end", function()
	local mode = collectgarbage("incremental")
	collectgarbage("stop")
	local n = 0
	repeat
		n = n + 1
	until collectgarbage("step", 10) or n > 100000
	assert(n <= 100000)
	collectgarbage("restart")
	collectgarbage(mode)
end)

case("closed states run finalizers", function()
	-- Runs when this program ends; a crash there fails the whole file.
	setmetatable({}, { __gc = function()
		local t = {}
		for i = 1, 100 do
			t[i] = tostring(i)
		end
	end })
end)

test.run()
