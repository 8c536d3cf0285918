-- Allocations that fail in what the container adds to Lua: loading through the code cache, require,
-- print, skynet.profile, skynet.require.
local skynet = require "skynet"
local codecache = require "skynet.codecache"
local allocfail = require "allocfail"
local test = require "testlib"

local LONG = ("x"):rep(100)
local TEXT = ("local t = { a = 1, long = %q, f = function(...) return ... end }\nreturn t, ...\n"):format(LONG)

-- A file that no service has seen.
local function new_file()
	local name = os.tmpname()
	local f <close> = assert(io.open(name, "w"))
	f:write(TEXT, "-- ", name, "\n")
	return name
end

allocfail.case("loadfile of a new file", {
	make = new_file,
	run = function(name) return assert(loadfile(name)) end,
	check = function(_, f) test.eq(f().long, LONG) end,
	over = os.remove,
})

allocfail.case("loadfile of a file that is known", {
	make = function()
		local name = new_file()
		assert(loadfile(name))
		return name
	end,
	run = function(name) return assert(loadfile(name)) end,
	check = function(_, f) test.eq(f().long, LONG) end,
	over = os.remove,
})

allocfail.case("dofile", {
	make = new_file,
	run = function(name) return dofile(name) end,
	check = function(_, t) test.eq(t.a, 1) end,
	over = os.remove,
})

allocfail.case("load", {
	run = function() return assert(load(TEXT, "=text"))("more") end,
	check = function(t, more) test.eq({ t.long, more }, { LONG, "more" }) end,
})

for _, name in ipairs { "skynet.queue", "skynet.misuse", "skynet.snowflake", "http.url", "no.such.module" } do
	allocfail.case("require of " .. name, {
		make = function() package.loaded[name] = nil end,
		run = function()
			local ok, value = pcall(require, name)
			return ok, value
		end,
		check = function(ok, value)
			test.ok(ok or value:find "memory" or name:find "^no", value)
			if not name:find "^no" then
				test.ok(require(name))
			end
		end,
	})
end

allocfail.case("codecache, what asks", {
	run = function()
		return codecache.mode(), codecache.mode "ON", codecache.clear and type(codecache.clear)
	end,
})

allocfail.case("skynet.require.require", {
	make = function() package.loaded["skynet.queue"] = nil end,
	run = function() return require "skynet.require".require "skynet.queue" end,
	check = function(queue) test.eq(type(queue), "function") end,
})

-- An unchanged Lua gives up at once.
if require "skynet.sharetable.core".is_shared then
	test.case("a long string is built when a collection makes room for it", function()
		local piece = LONG:rep(100)
		for n = 1, 1000 do
			local failed, ok, text = allocfail.native.attempt(n, "retry", function()
				return (piece:gsub("x", "yz") .. table.concat({ piece, piece }, LONG))
			end)
			test.ok(ok, text)
			test.eq(#text, 4 * #piece + #LONG)
			if not failed then
				test.ok(n > 3, n)
				return
			end
		end
	end)
end

allocfail.case("print", {
	run = function() print("# printed", 1, 2.5, nil, true) end,
})

allocfail.case("a warning", {
	run = function()
		warn "@on"
		warn("a warning of the test, ", "in pieces")
	end,
})

test.run()
