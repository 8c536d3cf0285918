-- skynet.socketchannel against small servers of this service: requests and answers (net.md
-- section 5; S9, S10).
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local socketchannel = require "skynet.socketchannel"
local channels = require "channels"
local rt = require "rt"
local sockets = require "sockets"
local test = require "testlib"

local socket_error = socketchannel.error
local server, stop, lines_of, line_server =
	channels.server, channels.stop, channels.lines_of, channels.line_server
local read_line, channel, raises, ask =
	channels.read_line, channels.channel, channels.raises, channels.ask

-- Each line is a part; "." at its end says that more follow.
local function read_part(sock)
	local line = sock:readline()
	return line:sub(1, 1) == "+", line:match "^.([^.]*)", line:sub(-1) == "."
end

-- Session mode: frames of session, flags, text.
local function frame(session, flags, text)
	return string.pack("<I2I1s2", session, flags, text)
end
local BAD, MORE = 1, 2
local function read_frame(sock)
	local session, flags, n = string.unpack("<I2I1I2", sock:read(5))
	if session == 9999 then
		error "no such frame"
	elseif session == 0 then
		return nil
	end
	return session, flags & BAD == 0, n > 0 and sock:read(n) or "", flags & MORE ~= 0
end

test.case("the error value has a text", function()
	test.eq(tostring(socket_error), "[Error: socket]")
end)

test.case("the first request connects", function()
	local s = line_server()
	local c = channel(s)
	test.eq(ask(c, "hello"), "hello")
	test.eq(s.n, 1)
	c:close()
	stop(s)
end)

test.case("concurrent requests get their own answers in order", function()
	local s = line_server()
	local c = channel(s)
	local r = {}
	for i = 1, 3 do
		r[i] = rt.start(ask, c, "line" .. i)
	end
	for i = 1, 3 do
		test.eq({ rt.join(r[i]) }, { true, "line" .. i })
	end
	test.eq(s.n, 1)
	c:close()
	stop(s)
end)

test.case("one answer function may read what many requests asked", function()
	local s = line_server()
	local c = channel(s)
	local got = c:request({ "a\n", "b\n", "c\n" }, function(sock)
		return true, { sock:readline(), sock:readline(), sock:readline() }
	end)
	test.eq(got, { "+a", "+b", "+c" })
	c:close()
	stop(s)
end)

test.case("a request without an answer returns at once", function()
	local got
	local s = line_server { quiet = function() got = true end }
	local c = channel(s)
	test.eq(c:request("quiet\n"), nil)
	test.eq(ask(c, "next"), "next")
	test.eq(got, true)
	c:close()
	stop(s)
end)

test.case("an error answer raises its data and keeps the connection", function()
	local s = line_server { fail = function(id) socket.write(id, "-ERR no\n") end }
	local c = channel(s)
	test.err(function() ask(c, "fail") end, "ERR no")
	test.eq(ask(c, "after"), "after")
	test.eq(s.n, 1)
	c:close()
	stop(s)
end)

test.case("an answer that cannot be read fails all that wait; the next reconnects", function()
	local s = line_server { bad = function(id) socket.write(id, "!\n") end }
	local c = channel(s)
	local first = rt.start(ask, c, "bad")
	local second = rt.start(ask, c, "bad")
	test.eq({ rt.join(first) }, { false, "cannot read !" })
	test.eq({ rt.join(second) }, { false, "cannot read !" })
	test.eq(ask(c, "again"), "again")
	test.eq(s.n, 2)
	c:close()
	stop(s)
end)

test.case("parts are collected, a bad part raises its data", function()
	local s = line_server {
		three = function(id) socket.write(id, "+a.\n+b.\n+c\n") end,
		broken = function(id) socket.write(id, "+a.\n-b.\n+c\n") end,
	}
	local c = channel(s)
	test.eq(c:request("three\n", read_part), { "a", "b", "c" })
	raises("b", c.request, c, "broken\n", read_part)
	test.eq(c:request("one\n", read_part), "one")
	test.eq(s.n, 1)
	c:close()
	stop(s)
end)

test.case("requests pending when the peer closes raise the error; the next succeeds", function()
	local s = line_server {
		wait = function() end,
		die = function() return "close" end,
	}
	local c = channel(s)
	local first = rt.start(ask, c, "wait")
	local second = rt.start(ask, c, "die")
	test.eq({ rt.join(first) }, { false, socket_error })
	test.eq({ rt.join(second) }, { false, socket_error })
	test.eq(c:reason(), "connection lost")
	test.eq(ask(c, "next"), "next")
	test.eq(s.n, 2)
	c:close()
	stop(s)
end)

test.case("answers that arrive before the end are delivered", function()
	local s = line_server { last = function(id)
		socket.write(id, "+one\n+two\n")
		return "close"
	end }
	local c = channel(s)
	local r = {}
	for i, line in ipairs { "last", "more", "lost" } do
		r[i] = rt.start(ask, c, line)
	end
	test.eq({ rt.join(r[1]) }, { true, "one" })
	test.eq({ rt.join(r[2]) }, { true, "two" })
	test.eq({ rt.join(r[3]) }, { false, socket_error })
	c:close()
	stop(s)
end)

test.case("a close while idle is logged and the next request succeeds", function()
	local s = line_server { bye = function(id)
		socket.write(id, "+bye\n")
		return "close"
	end }
	local c = channel(s)
	local mark = rt.mark()
	test.eq(ask(c, "bye"), "bye")
	rt.logged("socket closed by peer :  127%.0%.0%.1 " .. s.port, mark)
	test.eq(ask(c, "next"), "next")
	test.eq(s.n, 2)
	c:close()
	stop(s)
end)

test.case("close fails what waits; connect revives", function()
	local s = line_server { wait = function() end }
	local c = channel(s)
	local r = rt.start(ask, c, "wait")
	test.wait_for(function() return s.n == 1 end)
	c:close()
	test.eq({ rt.join(r) }, { false, socket_error })
	test.eq(c:reason(), "the channel was closed")
	test.err(function() ask(c, "x") end, "the channel is closed")
	test.eq(c:connect(true), true)
	test.eq(ask(c, "x"), "x")
	c:close()
	c:close()
	stop(s)
end)

test.case("response waits for what the server sends by itself", function()
	local s = server(function(id)
		socket.write(id, "+news 1\n+news 2\n")
		socket.read(id)
	end)
	local c = channel(s)
	test.eq(c:response(read_line), "news 1")
	test.eq(c:response(read_line), "news 2")
	c:close()
	stop(s)
end)

test.case("a time limit raises the error and ends an order-mode connection", function()
	local s = line_server { wait = function() end }
	local c = channel(s)
	local mark = rt.mark()
	-- The limit is of waiting for a connection, too.
	c:connect(true)
	local limited = rt.start(function()
		raises(socket_error, ask, c, "wait", 5)
		return c:reason()
	end)
	local behind = rt.start(ask, c, "wait")
	test.eq({ rt.join(limited) }, { true, "timeout" })
	test.eq(#rt.lines("socket: request timeout 127%.0%.0%.1", mark), 1)
	test.eq({ rt.join(behind) }, { false, socket_error })
	test.eq(ask(c, "next", 6000), "next")
	test.eq(s.n, 2)
	c:close()
	-- The descriptor's limit counts where a request has none.
	c = channel(s, { timeout = 5 })
	raises(socket_error, ask, c, "wait")
	c:close()
	stop(s)
end)

test.case("a request while old answers are still read has a connection of its own", function()
	local s = line_server { bye = function(id)
		socket.write(id, "+bye\n+again\n")
		return "close"
	end }
	local c = channel(s)
	local go = {}
	local slow = rt.start(c.request, c, "bye\n", function(sock)
		local line = sock:readline()
		skynet.wait(go)
		return true, { line, sock:readline() }
	end)
	test.wait_for(function() return c.link and socket.disconnected(c.link.id) end)
	local mark = rt.mark()
	test.eq(ask(c, "next"), "next")
	test.eq(#rt.lines("socket: disconnect detected  127%.0%.0%.1 " .. s.port, mark), 1)
	test.eq(s.n, 2)
	skynet.wakeup(go)
	test.eq({ rt.join(slow) }, { true, { "+bye", "+again" } })
	c:close()
	stop(s)
end)

test.case("session mode: answers in any order and in parts", function()
	local s = server(function(id)
		local slow = socket.read(id, 1)
		test.eq(slow, "s")
		test.eq(socket.read(id, 1), "f")
		socket.write(id, frame(2, 0, "fast"))
		socket.write(id, frame(77, 0, "whose?"))
		test.eq(socket.read(id, 1), "p")
		socket.write(id, frame(3, MORE, "a"))
		socket.write(id, frame(1, 0, "slow"))
		socket.write(id, frame(3, MORE, "b"))
		socket.write(id, frame(3, 0, "c"))
		socket.write(id, frame(4, BAD, "no"))
		socket.read(id)
	end)
	local c = channel(s, { response = read_frame })
	local mark = rt.mark()
	c:connect(true)
	local slow = rt.start(c.request, c, "s", 1)
	skynet.yield()
	test.eq(c:request("f", 2), "fast")
	test.eq(slow.done, nil)
	local refused = rt.start(c.request, c, { "" }, 4)
	skynet.yield()
	test.err(function() c:request("x", 4) end, "is waiting already")
	test.eq(c:request("p", 3), { "a", "b", "c" })
	test.eq({ rt.join(slow) }, { true, "slow" })
	test.eq({ rt.join(refused) }, { false, "no" })
	test.eq(#rt.lines("socket: unknown session : 77", mark), 1)
	c:close()
	stop(s)
end)

test.case("session mode: a bad answer fails all, a nil session with the error", function()
	local s = server(function(id, n)
		socket.read(id, 2)
		socket.write(id, frame(n == 1 and 9999 or 0, 0, ""))
		socket.read(id)
	end)
	local c = channel(s, { response = read_frame })
	local first, second = rt.start(c.request, c, "a", 1), rt.start(c.request, c, "b", 2)
	test.match(select(2, rt.join(first)), "no such frame")
	test.match(select(2, rt.join(second)), "no such frame")
	raises(socket_error, c.request, c, "ab", 1)
	c:close()
	stop(s)
end)

test.case("session mode: a time limit leaves the others alone", function()
	local s = server(function(id)
		socket.read(id, 2)
		socket.write(id, frame(2, 0, "ok"))
		socket.read(id)
	end)
	local c = channel(s, { response = read_frame })
	c:connect(true)
	raises(socket_error, c.request, c, "a", 1, nil, 5)
	test.eq(c:request("b", 2), "ok")
	test.eq(s.n, 1)
	c:close()
	stop(s)
end)

test.case("session mode: the peer closes while idle, the next request succeeds", function()
	local s = server(function(id)
		socket.read(id, 1)
		socket.write(id, frame(1, 0, "ok"))
	end)
	local c = channel(s, { response = read_frame })
	test.eq(c:request("a", 1), "ok")
	test.wait_for(function() return c.link == nil or c.link.err end)
	test.eq(c:request("b", 1), "ok")
	test.eq(s.n, 2)
	c:close()
	stop(s)
end)

test.case("large requests go out in pieces behind small ones", function()
	local got
	local s = server(function(id)
		got = socket.read(id, 9)
		socket.write(id, "+\n")
		socket.read(id)
	end)
	local c = channel(s)
	c:request("one", read_line, { "two", "end" })
	test.eq(got, "onetwoend")
	c:close()
	stop(s)
end)

test.case("pieces of a large request let small ones pass", function()
	local go
	local got = {}
	local s = server(function(id)
		test.wait_for(function() return go end)
		for line in lines_of(id) do
			got[#got + 1] = line:sub(1, 8)
			if line:sub(1, 4) == "last" then
				socket.write(id, "+\n")
			end
		end
	end)
	local c = channel(s)
	-- What follows waits in the queues.
	local filler, fillers = ("f"):rep(4 * 1024 * 1024) .. "\n", 0
	c:connect(true)
	sockets.fill(c.link.id, function()
		c:request(filler)
		fillers = fillers + 1
		return #filler
	end)
	local large = rt.start(c.request, c, "large 1\n", read_line, { "large 2\n", "last one\n" })
	skynet.yield()
	c:request("small 1\n")
	c:request("small 2\n")
	go = true
	test.eq({ rt.join(large) }, { true, "" })
	test.eq(table.move(got, fillers + 1, #got, 1, {}), { "small 1", "small 2", "large 1", "large 2", "last one" })
	c:close()
	stop(s)
end)

test.case("overload is told once, and taken back when all is sent", function()
	local go
	local s = server(function(id)
		test.wait_for(function() return go end)
		while socket.read(id) do end
	end)
	local told = {}
	local c = channel(s, { overload = function(is_overloaded)
		told[#told + 1] = is_overloaded
	end })
	local mark = rt.mark()
	local block = ("x"):rep(256 * 1024)
	test.wait_for(function()
		c:request(block)
		return #told > 0
	end)
	for _ = 1, 16 do
		c:request(block)
	end
	rt.logged("WARNING: %d+ K bytes need to send out", mark)
	test.eq(told, { true })
	go = true
	test.wait_for(function() return #told == 2 end, 3000)
	test.eq(told, { true, false })
	c:close()
	stop(s)
end)

test.case("an overload that a lost connection left is taken back by the next", function()
	local s = server(function(id, n)
		socket.pause(id)
		if n == 1 then
			skynet.wait(id)
		end
		while socket.read(id) do end
	end)
	local told = {}
	local c = channel(s, { overload = function(is_overloaded)
		told[#told + 1] = is_overloaded
	end })
	c:connect(true)
	test.wait_for(function() return s.ids[1] end)
	test.wait_for(function()
		c:request(("x"):rep(256 * 1024))
		return #told > 0
	end)
	test.eq(told, { true })
	socket.shutdown(s.ids[1])
	skynet.wakeup(s.ids[1])
	test.wait_for(function() return c.link == nil or c.link.err end)
	test.eq(told, { true })
	c:connect(true)
	test.eq(told, { true, false })
	c:close()
	stop(s)
end)

test.case("own read functions replace those of the sock", function()
	local s = line_server()
	local c = channel(s, {
		socket_read = function(sock, n) return socket.read(sock[1], n):upper() end,
		socket_readline = function(sock, sep) return "<" .. socket.readline(sock[1], sep) end,
	})
	local function both(sock)
		return true, sock:read(2) .. sock:readline()
	end
	test.eq(c:request("ab\n", both), "+A<b")
	c:close()
	stop(s)
end)

test.case("a channel that nobody holds closes its connection", function()
	for _, mode in ipairs { "order", "session" } do
		local ended
		local s = server(function(id)
			while socket.read(id) do end
			ended = true
		end)
		do
			local c = channel(s, { response = mode == "session" and read_frame or nil })
			c:connect(true)
		end
		test.wait_for(function()
			collectgarbage()
			return ended
		end, nil, mode)
		stop(s)
	end
end)

test.case("a service that ends closes its channels", function()
	for _, mode in ipairs { "order", "session" } do
		local ended
		local s = server(function(id)
			while socket.read(id) do end
			ended = true
		end)
		local agent = rt.agent()
		rt.run(agent, [[
			local mode, port = select(3, ...)
			local c = require "skynet.socketchannel".channel {
				host = "127.0.0.1", port = port,
				response = mode == "session" and function(sock) return sock:read(1) end or nil,
			}
			c:connect(true)
			skynet.fork(c.request, c, "x", mode == "session" and 1 or function(sock)
				return true, sock:read(10)
			end)
			SHARED.c = c
			skynet.retpack()
		]], mode, s.port)
		skynet.kill(agent)
		test.wait_for(function() return ended end, nil, mode)
		stop(s)
	end
end)

test.case("the old module name works", function()
	test.ok(require "socketchannel" == socketchannel)
end)

test.run()
