-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- A debug session, from the console's side.

local skynet = require "skynet"
require "skynet.manager"
local socket = require "skynet.socket"
local debugchannel = require "skynet.debugchannel"
local test = require "testlib"
local rt = require "rt"

-- A connection to ourselves: what services send to the first id is read from the
-- second.
local function socketpair()
	local inner
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(id)
		socket.start(id)
		inner = id
	end)
	local outer = assert(socket.open("127.0.0.1", port))
	test.wait_for(function() return inner end)
	socket.close(listener)
	return inner, outer
end

local target, channel, output, session, fd

local function expect(text)
	test.eq(socket.read(output, #text), text)
end

local function command(line)
	channel:write(line)
end

local prompt

test.case("attaching logs, prompts, and a second attach is refused", function()
	target = skynet.newservice "rt_debuggee"
	prompt = skynet.address(target) .. ">"
	fd, output = socketpair()
	local from = rt.mark()
	local pointer
	channel, pointer = debugchannel.create()
	session = rt.start(skynet.call, target, "debug", "REMOTEDEBUG", fd, pointer)
	expect(prompt)
	rt.logged("Enter debug mode", from)
	local err = rt.call_failed(skynet.call, target, "debug", "REMOTEDEBUG", fd, pointer)
	test.match(err, "Already in debug mode")
end)

test.case("expressions and statements are evaluated once", function()
	command "1+1"
	expect("2\t\n" .. prompt)
	command "xx = (xx or 0) + 3"
	expect(prompt)
	command "xx, 'two'"
	expect("3\ttwo\t\n" .. prompt)
	command "print(1, nil, 'x')"
	expect("1\tnil\tx\t\n" .. prompt)
	command "error('oops', 0)"
	expect("oops\t\n" .. prompt)
	command "x ="
	test.match(socket.readline(output), "unexpected symbol")
	expect(prompt)
	command ""
	expect(prompt)
	command "type((...))"
	expect("number\t\n" .. prompt)
end)

test.case("a service that is debugged answers as usual", function()
	test.eq({ skynet.call(target, "lua", "plain", 4) }, { "plain", 9 })
	rt.call_failed(skynet.call, target, "lua", "bad", nil)
end)

test.case("watch refuses what does not exist", function()
	command "watch('nosuch')"
	expect("No nosuch\t\n" .. prompt)
	command "watch('response')"
	expect("No dispatch\t\n" .. prompt)
end)

local function stopped_at(line)
	local text = socket.readline(output, ">")
	test.match(text, "rt_debuggee.lua%(" .. line .. "%)$")
end

test.case("a watched request stops; locals are read and assigned; others go on", function()
	command "watch('lua', function(_, _, cmd) return cmd == 'this' end)"
	expect(prompt)
	test.eq({ skynet.call(target, "lua", "other", 1) }, { "other", 3 })
	local r = rt.start(skynet.call, target, "lua", "this", 5)
	stopped_at(19)
	command "cmd, a"
	expect "this\t5\t\n"
	stopped_at(19)
	command "a = 100"
	stopped_at(19)
	test.eq({ skynet.call(target, "lua", "meanwhile", 1) }, { "meanwhile", 3 })
	test.ok(not r.done)
	command "s"
	stopped_at(11)
	command "n"
	stopped_at(12)
	command "n"
	stopped_at(13)
	command "b, r, type(_CO)"
	expect "1\t200\tthread\t\n"
	stopped_at(13)
	command "c"
	test.eq({ rt.join(r) }, { true, "this", 201 })
	expect(prompt)
end)

test.case("stepping into a function and on until the handler ends", function()
	command "watch('lua')"
	expect(prompt)
	local r = rt.start(skynet.call, target, "lua", "step", 2)
	stopped_at(19)
	for _, line in ipairs { 11, 12, 6, 7, 13, 14, 20, 21 } do
		command "s"
		stopped_at(line)
	end
	command "s"
	expect(prompt)
	test.eq({ rt.join(r) }, { true, "step", 5 })
	test.eq({ skynet.call(target, "lua", "after", 1) }, { "after", 3 })
end)

test.case("cont ends the session, and a stopped task goes on", function()
	local from = rt.mark()
	command "watch('lua')"
	expect(prompt)
	local r = rt.start(skynet.call, target, "lua", "left", 3)
	stopped_at(19)
	command "cont"
	test.eq({ rt.join(session) }, { true, true })
	test.eq({ rt.join(r) }, { true, "left", 7 })
	rt.logged("Leave debug mode", from)
	test.eq({ skynet.call(target, "lua", "after", 1) }, { "after", 3 })
	skynet.kill(target)
end)

test.run()
