-- skynet.socketchannel against small servers of this service (net.md section 5; S9, S10).
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local socketchannel = require "skynet.socketchannel"
local rt = require "rt"
local test = require "testlib"

local socket_error = socketchannel.error

-- A server whose connections `serve(id, n)` handles, each in a task; n counts them.
local function server(serve)
	local self = { n = 0, ids = {} }
	self.listener, _, self.port = socket.listen("127.0.0.1", 0)
	socket.start(self.listener, function(id)
		socket.start(id)
		self.n = self.n + 1
		self.ids[self.n] = id
		serve(id, self.n)
		socket.close(id)
	end)
	return self
end

local function stop(self)
	socket.close(self.listener)
	for _, id in ipairs(self.ids) do
		socket.close(id)
	end
end

-- A port that refuses connections.
local function closed_port()
	local id, _, port = socket.listen("127.0.0.1", 0)
	socket.close(id)
	return port
end

local function lines_of(id)
	return function()
		return socket.readline(id) or nil
	end
end

-- Order mode: answers each line with "+line"; some lines do more.
local function line_server(on)
	return server(function(id, n)
		for line in lines_of(id) do
			local f = on and on[line]
			if f then
				if f(id, n) == "close" then
					return
				end
			else
				socket.write(id, "+" .. line .. "\n")
			end
		end
	end)
end

-- Answers "+x" are good, "-x" are errors, "*n" starts n parts.
local function read_line(sock)
	local line = sock:readline "\n"
	if line:sub(1, 1) == "!" then
		error("cannot read " .. line, 0)
	end
	return line:sub(1, 1) == "+", line:sub(2)
end

-- Each line is a part; "." at its end says that more follow.
local function read_part(sock)
	local line = sock:readline()
	return line:sub(1, 1) == "+", line:match "^.([^.]*)", line:sub(-1) == "."
end

local function channel(s, more)
	local desc = { host = "127.0.0.1", port = s.port }
	for k, v in pairs(more or {}) do
		desc[k] = v
	end
	return socketchannel.channel(desc)
end

local function raises(value, f, ...)
	local ok, err = pcall(f, ...)
	test.eq(ok, false)
	test.ok(err == value, "raised " .. tostring(err))
end

local function ask(c, line, timeout)
	return c:request(line .. "\n", read_line, nil, timeout)
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

test.case("a port that refuses raises the error and is logged", function()
	local port = closed_port()
	local c = channel { port = port }
	local mark = rt.mark()
	raises(socket_error, c.connect, c, true)
	test.eq(c:reason(), "Connection refused")
	test.eq(#rt.lines("Connect failed Connection refused 127%.0%.0%.1 " .. port, mark), 1)
	-- Tasks that wait for one attempt share its failure.
	local first = rt.start(ask, c, "x")
	local second = rt.start(ask, c, "y")
	test.eq({ rt.join(first) }, { false, socket_error })
	test.eq({ rt.join(second) }, { false, socket_error })
	test.eq(#rt.lines("Connect failed", mark), 2)
end)

test.case("the arguments of a channel are checked", function()
	test.err(function() socketchannel.channel() end, "needs a table with host and port")
	test.err(function() socketchannel.channel { host = "h", port = 1, timeout = "x" } end,
		"channel option 'timeout' must be a whole number above 0, got x")
	test.err(function() socketchannel.channel {} end, "needs a host")
	test.err(function() socketchannel.channel { host = "h" } end, "needs a port")
	test.err(function() socketchannel.channel { host = "h", port = 70000 } end, "needs a port")
	test.err(function() socketchannel.channel { host = "::1" } end, "needs a port")
	test.err(function() socketchannel.channel { host = "h:1", backup = { 1 } } end, "needs a host")
end)

test.case("a backup takes over and is tried first afterwards", function()
	local s = line_server { die = function() return "close" end }
	local bad = closed_port()
	-- The port of a backup without one is the channel's.
	local c = socketchannel.channel {
		host = "127.0.0.1:" .. bad,
		backup = { { host = "127.0.0.1", port = bad }, "127.0.0.1:" .. s.port },
	}
	local mark = rt.mark()
	test.eq(ask(c, "a"), "a")
	test.eq(#rt.lines("connect to backup host 127%.0%.0%.1 " .. s.port, mark), 1)
	raises(socket_error, ask, c, "die")
	mark = rt.mark()
	test.eq(ask(c, "b"), "b")
	test.eq(rt.lines("backup host", mark), {})
	c:close()
	stop(s)
end)

test.case("a backup without a port gets the channel's", function()
	local s = line_server()
	local c = socketchannel.channel {
		host = "127.0.0.2:" .. s.port, backup = { "127.0.0.1" }, connect_timeout = 500,
	}
	test.eq(ask(c, "a"), "a")
	c:changebackup { "127.0.0.3" }
	c:close()
	stop(s)
end)

test.case("authentication comes before all other requests", function()
	local log = {}
	local s = line_server {
		login = function(id)
			log[#log + 1] = "login"
			skynet.sleep(2)
			socket.write(id, "+welcome\n")
		end,
		get = function(id)
			log[#log + 1] = "get"
			socket.write(id, "+got\n")
		end,
		die = function() return "close" end,
	}
	local c = channel(s, { auth = function(self)
		test.eq(self:request("login\n", read_line), "welcome")
	end })
	local first = rt.start(ask, c, "get")
	local second = rt.start(ask, c, "get")
	test.eq({ rt.join(first) }, { true, "got" })
	test.eq({ rt.join(second) }, { true, "got" })
	test.eq(log, { "login", "get", "get" })
	raises(socket_error, ask, c, "die")
	test.eq(ask(c, "get"), "got")
	test.eq(log, { "login", "get", "get", "login", "get" })
	c:close()
	stop(s)
end)

test.case("authentication may begin with a greeting of the server", function()
	local s = server(function(id)
		socket.write(id, "+hello\n")
		test.eq(socket.readline(id), "login")
		socket.write(id, "+welcome\n")
		for line in lines_of(id) do
			socket.write(id, "+" .. line .. "\n")
		end
	end)
	local c = channel(s, { auth = function(self)
		test.eq(self:response(read_line), "hello")
		test.eq(self:request("login\n", read_line), "welcome")
	end })
	test.eq(ask(c, "a"), "a")
	c:close()
	stop(s)
end)

test.case("a failed authentication is logged and tries the next host", function()
	local bad = line_server { login = function(id) socket.write(id, "-wrong password\n") end }
	local good = line_server()
	local function auth(self) self:request("login\n", read_line) end
	local c = channel(bad, { auth = auth, backup = { { host = "127.0.0.1", port = good.port } } })
	local mark = rt.mark()
	test.eq(ask(c, "a"), "a")
	test.eq(#rt.lines("socket: auth failed wrong password", mark), 1)
	c:close()
	c = channel(bad, { auth = auth })
	raises(socket_error, c.connect, c, true)
	test.eq(c:reason(), "no more backup host")
	test.eq(#rt.lines("Connect failed no more backup host", mark), 1)
	stop(bad)
	stop(good)
end)

test.case("authentication may send the channel to another host", function()
	local first, second = line_server(), line_server()
	local moved
	local c = channel(first, { auth = function(self)
		if not moved then
			moved = true
			self:changehost("127.0.0.1", second.port)
		end
	end })
	test.eq(ask(c, "a"), "a")
	test.eq(second.n, 1)
	c:close()
	stop(first)
	stop(second)
end)

test.case("changehost drops the connection and takes effect at once", function()
	local first, second = line_server { wait = function() end }, line_server()
	local c = channel(first)
	test.eq(ask(c, "a"), "a")
	local r = rt.start(ask, c, "wait")
	skynet.yield()
	c:changehost("127.0.0.1", second.port)
	test.eq({ rt.join(r) }, { false, socket_error })
	test.eq(ask(c, "b"), "b")
	test.eq(second.n, 1)
	c:close()
	stop(first)
	stop(second)
end)

test.case("connect without `once` goes on until a server is there", function()
	local port = closed_port()
	local c = channel { port = port }
	local mark = rt.mark()
	local r = rt.start(c.connect, c)
	rt.logged("socket: connect Connection refused", mark)
	test.eq(r.done, nil)
	local s = line_server()
	c:changehost("127.0.0.1", s.port)
	test.eq({ rt.join(r) }, { true, true })
	test.eq(#rt.lines("socket: connect to 127%.0%.0%.1 " .. s.port, mark), 1)
	c:close()
	stop(s)
end)

test.case("requests whose time passes while the connection is made leave nothing behind", function()
	local channel = socketchannel.channel { host = "127.0.0.1", port = closed_port() }
	local co = coroutine.running()
	skynet.fork(pcall, channel.connect, channel)
	skynet.sleep(1)
	local function burst(n)
		local left = n
		for _ = 1, n do
			skynet.fork(function()
				local ok, err = pcall(channel.request, channel, "x", function() end, nil, 1)
				test.eq({ ok, err }, { false, socket_error })
				left = left - 1
				if left == 0 then
					skynet.wakeup(co)
				end
			end)
		end
		skynet.wait(co)
	end
	local function used()
		collectgarbage()
		collectgarbage()
		return collectgarbage "count"
	end
	burst(500)
	local before = used()
	for _ = 1, 40 do
		burst(500)
	end
	local grown = used() - before
	test.ok(grown < 500, grown .. " KiB")
	channel:close()
end)

test.case("tasks that wait for a connection go on in the order in which they came", function()
	local order = {}
	local s = line_server()
	local channel = socketchannel.channel { host = "127.0.0.1", port = s.port }
	for i = 1, 20 do
		skynet.fork(function()
			if i % 3 == 0 then
				-- Its time may pass; nothing to say, no answer.
				pcall(channel.request, channel, "", nil, nil, 1)
				return
			end
			channel:request(i .. "\n", function(sock)
				return true, sock:readline()
			end)
			order[#order + 1] = i
		end)
	end
	test.wait_for(function() return order[#order] == 20 end)
	for i = 2, #order do
		test.ok(order[i] > order[i - 1])
	end
	channel:close()
	stop(s)
end)

test.case("close ends an endless connect", function()
	local c = channel { port = closed_port() }
	local mark = rt.mark()
	local r = rt.start(c.connect, c)
	rt.logged("socket: connect Connection refused", mark)
	c:close()
	test.eq({ rt.join(r) }, { false, socket_error })
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
	local behind = rt.start(function()
		skynet.yield()
		return ask(c, "wait")
	end)
	raises(socket_error, ask, c, "wait", 5)
	test.eq(c:reason(), "timeout")
	test.eq(#rt.lines("socket: request timeout 127%.0%.0%.1", mark), 1)
	test.eq({ rt.join(behind) }, { false, socket_error })
	test.eq(ask(c, "next", 1000), "next")
	test.eq(s.n, 2)
	c:close()
	-- The descriptor's limit counts where a request has none.
	c = channel(s, { timeout = 5 })
	raises(socket_error, ask, c, "wait")
	c:close()
	stop(s)
end)

test.case("a time limit covers waiting for a connection", function()
	local s = line_server { login = function() end }
	local c = channel(s, { auth = function(self) self:request("login\n", read_line) end })
	raises(socket_error, ask, c, "x", 5)
	test.eq(c:reason(), "timeout")
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
	for _ = 1, 128 do
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
