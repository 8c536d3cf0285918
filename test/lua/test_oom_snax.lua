-- snax services whose allocations fail, each in its turn: a request fails or is done, a patch
-- is applied or is not, and a service that could not be started is none.

local skynet = require "skynet.manager"
local snax = require "skynet.snax"
local core = require "skynet.core"
local oom = require "oom"
local test = require "testlib"

local function sweep(handle, exchange, check, step)
	oom.sweep { handle = handle, exchange = exchange, check = check, step = step, burst = 3 }
end

test.case("posts and requests", function()
	local object = snax.newservice("oom_snax", 1)
	oom.watch(object.handle)
	local function exchange()
		object.post.post "posted"
		test.eq(table.pack(object.req.echo(1, nil, { "three" })), { 1, nil, { "three" }, n = 3 })
		test.eq(pcall(object.req.boom), false)
		test.eq(object.req.posted(), "posted")
		test.ok(snax.profile_info(object).echo.count > 0)
	end
	sweep(object.handle, exchange)
	snax.kill(object)
end)

local PATCH = [[
local version
function response.one() return version end
function response.two() return version end
function hotfix(n) version = n return n end
]]

test.case("a patch", function()
	local object = snax.newservice("oom_snax", 0)
	oom.watch(object.handle)
	local version, applied = 0, nil
	-- That the patch is applied shows: the functions say how often they were replaced.
	local function exchange()
		version = version + 1
		local text = PATCH:gsub("return version end", "return version, " .. version .. " end")
		test.eq(snax.hotfix(object, text, version), version)
		applied = version
	end
	local function get(name)
		local _, patched = object.req[name]()
		return patched
	end
	sweep(object.handle, exchange, function()
		test.eq({ get "one", get "two" }, { applied, applied })
		exchange()
		test.eq({ get "one", get "two" }, { version, version })
		test.eq({ (object.req.one()) }, { version })
	end, 3)
	snax.kill(object)
end)

test.case("init and exit", function()
	local before = oom.services()
	oom.fresh {
		make = function() return skynet.newservice("snaxd", "oom_snax") end,
		exchange = function(handle)
			local init = snax.interface("oom_snax").system.init
			if pcall(skynet.call, handle, "snax", init, 5) then
				pcall(snax.kill, snax.bind(handle, "oom_snax"))
			end
		end,
		check = function(handle)
			if core.alive(handle) then
				-- It could not end, but works.
				local object = snax.bind(handle, "oom_snax")
				local started, n = pcall(object.req.one)
				test.ok(not started or n == 5, n)
				if not started then
					-- Nobody has heard that it is there, or it never heard that it is wanted.
					skynet.call(handle, "snax", snax.interface("oom_snax").system.init, 5)
				end
				snax.kill(object)
			end
			oom.only(before)
		end,
	}
end)

test.case("who starts a service", function()
	local user = oom.newservice "oom_snaxuser"
	local before = oom.services()
	local function use() test.eq(skynet.call(user, "lua", "use", "a", "b"), "a") end
	sweep(user, use, function()
		oom.only(before)
		use()
		oom.only(before)
	end)
end)

test.run()
