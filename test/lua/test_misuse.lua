-- Arguments that make no sense: the error says which, before anything happened.

local skynet = require "skynet"
require "skynet.manager"
local test = require "testlib"

local function refuses(text, f, ...)
	local args = table.pack(...)
	test.match(test.err(function() f(table.unpack(args, 1, args.n)) end), text)
end

test.case("names of services", function()
	local name = "the name of a service is a string, not a "
	refuses(name .. "nil", skynet.register)
	refuses(name .. "number", skynet.register, 3)
	refuses(name .. "nil", skynet.name)
	refuses("to name 'x' takes the handle of a service, not a nil", skynet.name, "x")
	refuses("to name '.x' takes the handle of a service, not a table", skynet.name, ".x", {})
	refuses("Invalid name '': a global name has 1 to 15 bytes", skynet.register, "")
	refuses("Invalid name '123'.* is no number", skynet.name, "123", skynet.self())
end)

test.case("what a service is started with", function()
	local before = #skynet.call(".launcher", "lua", "LIST")
	refuses("launch argument #1 contains a NUL byte", skynet.newservice, "rt_agent\0x")
	refuses("launch argument #2 contains a NUL byte", skynet.newservice, "rt_agent", "a\0b")
	test.eq(#skynet.call(".launcher", "lua", "LIST"), before)
end)

test.case("protocols and their handlers", function()
	local register = skynet.register_protocol
	refuses("needs a name, a string, and an id, 0 to 255 %(name = nil, id = 7%)", register, { id = 7 })
	refuses("%(name = far, id = 999%)", register, { name = "far", id = 999 })
	refuses("protocol lua: its name or its id 99 is taken", register, { name = "lua", id = 99 })
	refuses("function expected, got number", skynet.dispatch, "lua", 3)
	local before = skynet.dispatch "lua"
	local callable = setmetatable({}, { __call = function() end })
	skynet.dispatch("lua", callable)
	test.eq(rawequal(skynet.dispatch "lua", callable), true)
	skynet.dispatch("lua", before or function() end)
end)

test.case("snax types and objects", function()
	local snax = require "skynet.snax"
	refuses("the name of a snax type is a string, not a nil", snax.newservice)
	refuses("the name of a snax type is a string, not a nil", snax.bind, 3)
	refuses("a snax object is wanted.* got a number", snax.kill, 3)
	refuses("a snax object is wanted.* got a nil", snax.hotfix)
end)

test.case("services from functions", function()
	local service = require "skynet.service"
	refuses("the name of a service is a string, not a nil", service.new)
	refuses("the name of a service is a string, not a nil", service.query)
	refuses("the name of a service is a string, not a table", service.close, {})
	refuses("the main function is a number", service.new, "misuse", 3)
end)

test.case("schemas, data and hosts", function()
	refuses("the schema of sproto is a text, not a nil", require "sproto".parse)
	refuses("the name of a datasheet is a string, not a nil", require "skynet.datasheet.builder".new)
	refuses("dns.resolve takes the name of a host, not a nil", require "skynet.dns".resolve)
end)

test.case("servers without a configuration", function()
	refuses("login server: it is configured with a table, got a nil", (require "snax.loginserver"))
	refuses("msgserver: it is configured with a table, got a nil", require "snax.msgserver".start)
	refuses("gateserver.start needs a table of handlers", require "snax.gateserver".start)
	refuses("wsgateserver.start needs a table of handlers", require "snax.wsgateserver".start)
end)

test.run()
