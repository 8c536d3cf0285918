-- Who frees a message: each path that a payload takes through the node, for normal ends,
-- for errors in handlers, and with a service killed at every step of the way. The
-- payloads are large, so that one that is left shows in the C memory of the process.

local skynet = require "skynet.manager"
local memory = require "skynet.memory"
local socket = require "skynet.socket"
local rt = require "rt"
local test = require "testlib"

local SIZE = 60000
local PAYLOAD = ("p"):rep(SIZE)
local FRAME = string.pack(">s2", PAYLOAD)
local HOST = "127.0.0.1"
-- What else comes and goes in the process meanwhile: stocks of nodes, log lines.
local SLACK = SIZE // 2

local function services()
	local n = 0
	for _ in pairs(skynet.call(".launcher", "lua", "LIST")) do
		n = n + 1
	end
	return n
end

-- Runs `path` once to warm up, then again; afterwards no service, no socket and no
-- payload may be left.
local function leaves_nothing(name, path)
	test.case(name, function()
		path()
		local alive, sockets = services(), #socket.netstat()
		test.wait_for(function() return services() <= alive end)
		collectgarbage()
		local before = memory.total()
		path()
		test.wait_for(function()
			collectgarbage()
			return services() <= alive and #socket.netstat() <= sockets
				and memory.total() <= before + SLACK
		end, nil, "everything to be freed")
	end)
end

-- What services have told this one, see `expect`.
local told = {}

local function find(what)
	for i, t in ipairs(told) do
		if t[1] == what then
			return i
		end
	end
end

local function expect(what)
	return test.wait_for(function()
		local i = find(what)
		return i and table.remove(told, i)
	end, nil, what)
end

-- `start(done)` sets things in motion, the last of which is that somebody tells `done`.
-- It gives the service that is to die, and what to do afterwards. The victim dies after
-- more and more turns of this service: first at once, at last when all is over.
local function killed_at_every_step(name, start)
	leaves_nothing(name .. ", killed at every step", function()
		local turns = 0
		local is_over
		repeat
			told = {}
			-- Of its own for each try: the last victim's word may still be under way.
			local done = "done after " .. turns
			local victim, finish = start(done)
			for _ = 1, turns do
				skynet.yield()
			end
			is_over = find(done)
			skynet.kill(victim)
			if finish then
				finish()
			end
			turns = turns + 1 + turns // 4
		until is_over
	end)
end

----------------------------------------------------------------- packed messages

local ECHO = "skynet.retpack(select(3, ...))"

local function with_agent(f)
	return function()
		local agent = rt.agent()
		f(agent)
		skynet.kill(agent)
	end
end

leaves_nothing("a call and its answer", with_agent(function(agent)
	test.eq(#rt.run(agent, ECHO, PAYLOAD), SIZE)
end))

leaves_nothing("a handler that raises", with_agent(function(agent)
	test.err(function() rt.run(agent, "error 'no'", PAYLOAD) end, "call failed")
	rt.tell(agent, "error 'no'", PAYLOAD)
	rt.run(agent, ECHO)
end))

leaves_nothing("a message of no known class, and one that does not unpack", with_agent(function(agent)
	local core = require "skynet.core"
	core.send(agent, 77, 0, PAYLOAD)
	core.send(agent, skynet.PTYPE_LUA, 0, "\7" .. PAYLOAD)
	rt.run(agent, ECHO)
end))

leaves_nothing("messages for nobody", function()
	local agent = rt.agent()
	skynet.kill(agent)
	skynet.send(agent, "lua", PAYLOAD)
	skynet.send(".nobody", "lua", PAYLOAD)
	test.err(function() skynet.call(agent, "lua", PAYLOAD) end)
	local msg, sz = skynet.pack(PAYLOAD)
	skynet.redirect(agent, skynet.self(), "lua", 0, msg, sz)
end)

leaves_nothing("an answer for who has died", function()
	local asker, answerer = rt.agent(), rt.agent()
	rt.tell(asker, "skynet.call(select(3, ...), 'lua', [[SHARED.answer = require 'skynet'.response()]])", answerer)
	rt.run(answerer, [[
		while not SHARED.answer do skynet.yield() end
		skynet.retpack()
	]])
	skynet.kill(asker)
	rt.run(answerer, "SHARED.answer(true, select(3, ...)) skynet.retpack()", PAYLOAD)
	skynet.kill(answerer)
end)

-- For code in agents that get this service and what to tell it.
local TELL = "skynet.send(select(3, ...), 'lua', 'socket', (select(4, ...))) "

killed_at_every_step("the receiver of sends", function(done)
	local victim = rt.agent()
	for _ = 1, 5 do
		rt.tell(victim, "skynet.sleep(0)", PAYLOAD)
	end
	rt.tell(victim, "skynet.sleep(0) " .. TELL, skynet.self(), done)
	return victim
end)

killed_at_every_step("who is called and answers late", function(done)
	local victim = rt.agent()
	skynet.fork(function()
		if pcall(rt.run, victim, "skynet.sleep(1) " .. ECHO, PAYLOAD) then
			told[#told + 1] = { done }
		end
	end)
	return victim
end)

killed_at_every_step("who calls", function(done)
	local victim, callee = rt.agent(), rt.agent()
	rt.tell(victim, "skynet.call(select(5, ...), 'lua', "
		.. "[[local skynet = require 'skynet' skynet.sleep(1) skynet.retpack(select(3, ...))]], select(6, ...)) "
		.. TELL, skynet.self(), done, callee, PAYLOAD)
	return victim, function()
		rt.run(callee, "skynet.sleep(2) skynet.retpack()")
		skynet.kill(callee)
	end
end)

----------------------------------------------------------------- gate

-- A gate with one connection: the gate, its fd, and the client's id.
local function open_gate()
	told = {}
	local gate = skynet.newservice "gate"
	local _, port = skynet.call(gate, "lua", "open", { address = HOST, port = 0 })
	local id = assert(socket.open(HOST, port))
	return gate, expect "open"[2], id
end

local function close_gate(gate, id)
	socket.close(id)
	skynet.kill(gate)
end

-- An agent that counts clients' packages, or raises, or waits and tells of the fourth.
local CLIENT = [[
	local how, boss, done = select(3, ...)
	skynet.register_protocol {
		name = "client",
		id = skynet.PTYPE_CLIENT,
		unpack = skynet.tostring,
		dispatch = function()
			skynet.ignoreret()
			SHARED.n = (SHARED.n or 0) + 1
			if how == "raise" then error "no" end
			if how == "wait" then
				skynet.sleep(1)
				SHARED.waited = (SHARED.waited or 0) + 1
				if SHARED.waited == 4 then skynet.send(boss, "lua", "socket", done) end
			end
		end,
	}
	skynet.retpack()
]]

local function client_agent(how, done)
	local agent = rt.agent()
	rt.run(agent, CLIENT, how, skynet.self(), done)
	return agent
end

local function wait_for_packages(agent, n)
	test.wait_for(function()
		return rt.run(agent, "skynet.retpack(SHARED.n or 0)") >= n
	end)
end

leaves_nothing("a package as text for the watchdog", function()
	local gate, fd, id = open_gate()
	skynet.call(gate, "lua", "accept", fd)
	socket.write(id, FRAME)
	test.eq(#expect "data"[3], SIZE)
	close_gate(gate, id)
end)

for _, how in ipairs { "count", "raise" } do
	leaves_nothing("a package for an agent that is to " .. how, function()
		local gate, fd, id = open_gate()
		local agent = client_agent(how)
		skynet.call(gate, "lua", "forward", fd, nil, agent)
		socket.write(id, FRAME:rep(5))
		wait_for_packages(agent, 5)
		skynet.kill(agent)
		close_gate(gate, id)
	end)
end

leaves_nothing("half a package, when the client goes", function()
	local gate, fd, id = open_gate()
	skynet.call(gate, "lua", "accept", fd)
	socket.write(id, FRAME .. FRAME:sub(1, SIZE // 2))
	expect "data"
	socket.close(id)
	expect "close"
	skynet.kill(gate)
end)

killed_at_every_step("a gate with packages under way", function(done)
	local gate, fd, id = open_gate()
	skynet.call(gate, "lua", "accept", fd)
	socket.write(id, FRAME:rep(3) .. string.pack(">s2", done) .. FRAME:sub(1, SIZE // 2))
	return gate, function()
		socket.close(id)
	end
end)

killed_at_every_step("an agent with packages under way", function(done)
	local gate, fd, id = open_gate()
	local agent = client_agent("wait", done)
	skynet.call(gate, "lua", "forward", fd, nil, agent)
	socket.write(id, FRAME:rep(4))
	return agent, function()
		close_gate(gate, id)
	end
end)

----------------------------------------------------------------- plain sockets

-- A service that listens and does with the first connection what `code` says.
local READER = [[
	local socket = require "skynet.socket"
	local id, _, port = socket.listen("127.0.0.1", 0)
	local boss, done = select(3, ...)
	socket.start(id, function(fd)
		assert(socket.start(fd))
		%s
	end)
	skynet.retpack(port)
]]

local function reader(code, ...)
	local agent = rt.agent()
	return agent, rt.run(agent, READER:format(code), ...)
end

local CODES = {
	["reads all of it"] = "SHARED.got = #socket.read(fd, 180000) socket.close(fd)",
	["reads a part and forgets the rest"] = "SHARED.got = #socket.read(fd, 10)",
	["reads nothing, until it is paused"] = "SHARED.got = 0",
	["raises while it reads"] = "SHARED.got = #socket.read(fd, 10) error 'no'",
}

for what, code in pairs(CODES) do
	leaves_nothing("a service that " .. what, function()
		local agent, port = reader(code)
		local id = assert(socket.open(HOST, port))
		socket.write(id, PAYLOAD:rep(3))
		test.wait_for(function()
			return rt.run(agent, "skynet.retpack(SHARED.got)")
		end)
		skynet.kill(agent)
		socket.close(id)
	end)
end

killed_at_every_step("a reader", function(done)
	local agent, port = reader([[
		for _ = 1, 179 do socket.read(fd, 1000) end
		skynet.send(boss, "lua", "socket", done)
	]], skynet.self(), done)
	local id = assert(socket.open(HOST, port))
	socket.write(id, PAYLOAD:rep(3))
	return agent, function()
		socket.close(id)
	end
end)

leaves_nothing("output that nobody reads, when its writer is killed", function()
	local listener, _, port = socket.listen(HOST, 0)
	local accepted
	socket.start(listener, function(fd) accepted = fd end)
	local writer = rt.agent()
	rt.run(writer, [[
		local socket = require "skynet.socket"
		local id = assert(socket.open("127.0.0.1", (select(3, ...))))
		for _ = 1, 100 do
			socket.write(id, select(4, ...))
		end
		skynet.retpack()
	]], port, PAYLOAD)
	test.wait_for(function() return accepted end)
	skynet.kill(writer)
	socket.close_fd(accepted)
	socket.close(listener)
end)

----------------------------------------------------------------- blocks

leaves_nothing("blocks that come with other arguments that are wrong", function()
	local driver = require "skynet.socketdriver"
	local wscodec = require "wscodec"
	local wsgate = require "snax.wsgate"
	local codec = wscodec.new {}
	-- Stands for a new block in each call.
	local BLOCK = {}
	local function refused(text, f, ...)
		for _ = 1, 10 do
			local args = table.pack(...)
			for i = 1, args.n do
				if args[i] == BLOCK then
					args[i] = skynet.pack(PAYLOAD)
				end
			end
			test.err(function() f(table.unpack(args, 1, args.n)) end, text)
		end
	end
	refused("#1", socket.write, nil, BLOCK, 10)
	refused("#1", socket.lwrite, "x", BLOCK, 10)
	refused("#1", driver.rawsend, {}, BLOCK, 10)
	refused("#1", wscodec.send, nil, 2, BLOCK, 10)
	refused("#2", wscodec.send, 1, {}, BLOCK, 10)
	refused("not the kind of a frame", wscodec.send, 1, 3, BLOCK, 10)
	refused("#4", wscodec.send, 1, 2, BLOCK)
	refused("size out of range", wscodec.send, 1, 2, BLOCK, -1)
	refused("#1", wscodec.close, "x", BLOCK, 10)
	refused("#2", codec.send, codec, nil, 2, BLOCK, 10)
	refused("not the kind of a frame", codec.send, codec, 1, 3, BLOCK, 10)
	refused("#6", codec.send, codec, 1, 2, BLOCK, 10, "no key")
	refused("size out of range", codec.feed, codec, BLOCK, -1)
	refused("kind must be text or binary", wsgate.send, 1, BLOCK, 10, "ping")
end)

skynet.init(function()
	skynet.dispatch("lua", function(session, _, cmd, ...)
		if cmd == "socket" then
			local what, _, text = ...
			told[#told + 1] = table.pack(...)
			if what == "data" then
				told[#told + 1] = { text }
			end
		elseif session ~= 0 then
			skynet.retpack()
		end
	end)
end)

test.run()
