-- Loads modules on the main thread, where a service loads what it is made of, in the
-- way that its argument names, and tells what it got.

local skynet = require "skynet"

local how, folder = ...
local report = {}

package.path = folder .. "/?.lua;" .. package.path

-- Every way is run by several services: the later ones find what is known already.
local ways = {}

function ways.plain()
	local module, file = require "ml_plain"
	report.name, report.file, report.again = module[1], file, select("#", require "ml_plain")
	report.same = module == require "ml_plain" and module == package.loaded.ml_plain
	report.nothing, report.falsy = require "ml_nothing", require "ml_falsy"
	report.set = require "ml_set"
end

function ways.first()
	table.insert(package.searchers, 1, function(name)
		return name == "ml_plain" and function(...) return { "mine", ... } end or nil, "datum"
	end)
	report.value, report.datum = require "ml_plain"
end

function ways.second()
	table.insert(package.searchers, 2, function(name)
		return function() return "second" end
	end)
	report.value = require "ml_plain"
end

function ways.replaced()
	package.searchers = { function() return function() return "replaced" end end }
	report.value = require "ml_plain"
end

function ways.none()
	package.searchers = nil
	report.value = select(2, pcall(require, "ml_plain"))
end

function ways.preload()
	package.preload.ml_plain = function(...) return { "preloaded", ... } end
	report.value, report.datum = require "ml_plain"
end

function ways.path()
	package.path = "./no/?.lua"
	report.value = select(2, pcall(require, "ml_plain"))
end

function ways.broken()
	report.raises = select(2, pcall(require, "ml_raises"))
	report.syntax = select(2, pcall(require, "ml_syntax"))
	report.missing = select(2, pcall(require, "ml_missing"))
	report.argument = select(2, pcall(require))
	report.yields = select(2, pcall(require, "ml_yields"))
end

function ways.init()
	report.order = {}
	require "ml_init"(report.order)
	skynet.init(function() skynet.sleep(1) table.insert(report.order, "yields") end)
	skynet.init(function() table.insert(report.order, "last") end)
	report.bad = select(2, pcall(skynet.init, 1))
end

ways[how]()

skynet.start(function()
	if how == "init" then
		local all = require "skynet.require".init_all
		report.twice = select(2, pcall(all))
	end
	skynet.dispatch("lua", function(_, _, cmd)
		skynet.retpack(report)
		if cmd == "quit" then
			skynet.exit()
		end
	end)
end)
