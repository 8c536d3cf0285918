-- skynet.socketchannel: how it gets its connection, and what others notice of that (net.md
-- 5.6; S9).
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet"
local socket = require "skynet.socket"
local socketchannel = require "skynet.socketchannel"
local channels = require "channels"
local rt = require "rt"
local test = require "testlib"

local socket_error = socketchannel.error
local server, stop, CLOSED_PORT, lines_of, line_server =
	channels.server, channels.stop, channels.CLOSED_PORT, channels.lines_of, channels.line_server
local read_line, channel, raises, ask =
	channels.read_line, channels.channel, channels.raises, channels.ask

test.case("a port that refuses raises the error and is logged", function()
	local port = CLOSED_PORT
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

test.case("nodelay is asked for with each connection", function()
	local driver = require "skynet.socketdriver"
	local nodelay, asked = driver.nodelay, {}
	driver.nodelay = function(id)
		asked[#asked + 1] = id
		return nodelay(id)
	end
	local s = line_server { die = function() return "close" end }
	local c = channel(s, { nodelay = true })
	test.eq(ask(c, "a"), "a")
	raises(socket_error, ask, c, "die")
	test.eq(ask(c, "b"), "b")
	driver.nodelay = nodelay
	test.eq(#asked, 2)
	test.eq(asked[2], c.link.id)
	c:close()
	stop(s)
end)

test.case("a backup takes over and is tried first afterwards", function()
	local s = line_server { die = function() return "close" end }
	local bad = CLOSED_PORT
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
	local port = CLOSED_PORT
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
	local channel = socketchannel.channel { host = "127.0.0.1", port = CLOSED_PORT }
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
	-- Without the coroutines of a burst, which are as many as the scheduler lets wait at a time:
	-- the pool gives them back after two collections.
	local function used()
		for _ = 1, 4 do
			collectgarbage()
		end
		return collectgarbage "count"
	end
	burst(500)
	local before = used()
	for _ = 1, 40 do
		burst(500)
	end
	local grown = used() - before
	test.ok(grown < 200, grown .. " KiB")
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

test.case("the pauses between attempts grow, and begin anew", function()
	local port = CLOSED_PORT
	local c = channel { port = port }
	local mark = rt.mark()
	local sleep, pauses = skynet.sleep, {}
	-- Those of the channel have a token; none of them takes its time.
	skynet.sleep = function(cs, token)
		pauses[#pauses + 1] = token and cs or nil
		return sleep(token and #pauses < 25 and 0 or cs, token)
	end
	local r = rt.start(c.connect, c)
	while #pauses < 25 do
		sleep(1)
	end
	skynet.sleep = sleep
	c:close()
	test.eq({ rt.join(r) }, { false, socket_error })
	local want = { 0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100 }
	for i = 1, 12 do
		test.eq(pauses[i], want[i])
		test.eq(pauses[12 + i], i == 12 and 100 or want[i + 1])
	end
	test.eq(#rt.lines("socket: try to reconnect 127%.0%.0%.1 " .. port, mark), 2)
end)

test.case("close ends an endless connect", function()
	local c = channel { port = CLOSED_PORT }
	local mark = rt.mark()
	local r = rt.start(c.connect, c)
	rt.logged("socket: connect Connection refused", mark)
	c:close()
	test.eq({ rt.join(r) }, { false, socket_error })
end)

test.case("a time limit covers waiting for a connection", function()
	local s = line_server { login = function() end }
	local c = channel(s, { auth = function(self) self:request("login\n", read_line) end })
	raises(socket_error, ask, c, "x", 5)
	test.eq(c:reason(), "timeout")
	c:close()
	stop(s)
end)

test.run()
