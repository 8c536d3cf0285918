-- Messages that a wsgate sends to agents without looking at them: what is told of a
-- connection, and every limit, is the same as without agents. The test is the watchdog, and
-- its clients are raw sockets of its own.
-- also with: socket_thread = 3
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local wscodec = require "wscodec"
local test = require "testlib"
local rt = require "rt"
local watchdog = require "watchdog"
local raw = require "wsraw"

local expect, frame = watchdog.expect, raw.frame

local gate, port, agent

local function open_gate(conf)
	gate, port = watchdog.open("wsgate", conf)
	agent = skynet.newservice "sv_agent"
end

-- A connection with an agent: client id, the gate's fd.
local function connect(address, header)
	local id, head = raw.connect(port, header)
	test.match(head, " 101 ")
	local fd = expect "open"[2]
	skynet.call(gate, "lua", "forward", fd, 0, address or agent)
	return id, fd
end

local function close(...)
	for _, id in ipairs { ... } do
		socket.close(id)
	end
	skynet.kill(gate)
	skynet.kill(agent)
end

local function notes()
	return skynet.call(agent, "lua", "notes")
end

local function numbers(first, last)
	local list = {}
	for i = first, last do
		list[#list + 1] = frame(i % 2 + 1, tostring(i))
	end
	return table.concat(list)
end

-- Wait for messages 1 to n of fd at the agent, in order, and for no more.
local function expect_numbers(fd, n)
	local list = test.wait_for(function()
		local list = notes()
		return #list >= n and list
	end, 6000)
	for i, note in ipairs(list) do
		test.eq(note, { fd, gate, tostring(i) })
	end
	test.eq(#list, n)
end

-- The connection is closed by the gate with that code, and by nobody before.
local function expect_end(id, fd, code, why)
	test.match(raw.next(id), "^8:" .. code .. ":" .. (why or ""))
	socket.write(id, raw.close_frame(code))
	test.eq(raw.next(id), "end")
	test.eq(expect("close", fd)[3], code)
end

test.case("messages in any pieces and fragments arrive once and in order, among pings", function()
	open_gate {}
	local id, fd = connect()
	local list = {}
	for i = 1, 600 do
		local text = tostring(i)
		if i % 3 == 0 then
			list[#list + 1] = frame(1, text:sub(1, 1), { fin = false }) .. frame(9, "in") .. frame(0, text:sub(2))
		else
			list[#list + 1] = frame(i % 2 + 1, text)
		end
		if i % 50 == 0 then
			list[#list + 1] = frame(9, "p" .. i) .. frame(10, "unasked")
		end
	end
	local bytes = table.concat(list)
	local at = 1
	while at <= #bytes do
		local n = math.random(1, 60)
		socket.write(id, bytes:sub(at, at + n - 1))
		at = at + n
	end
	expect_numbers(fd, 600)
	local named = {}
	for _ = 1, 200 + 12 do
		local pong = raw.next(id)
		if pong ~= "10:in" then
			named[#named + 1] = pong
		end
	end
	for i = 1, 12 do
		test.eq(named[i], "10:p" .. i * 50)
	end
	close(id)
end)

test.case("messages of any size come whole, empty ones too", function()
	open_gate { maxpackage = 1000000 }
	local id = connect()
	local sizes = { 0, 1, 125, 126, 4000, 65535, 65536, 1000000, 0 }
	for i, n in ipairs(sizes) do
		socket.write(id, frame(2, string.char(64 + i):rep(n)))
	end
	local list = test.wait_for(function()
		local list = notes()
		return #list == #sizes and list
	end, 6000)
	for i, n in ipairs(sizes) do
		test.ok(list[i][3] == string.char(64 + i):rep(n), "message " .. i)
	end
	close(id)
end)

test.case("compressed messages are inflated, and the limit is of what they become", function()
	local mark = rt.mark()
	open_gate { maxpackage = 1000, deflate = true }
	local id, fd = connect(nil, { ["Sec-WebSocket-Extensions"] = "permessage-deflate" })
	local packer = wscodec.new { deflate = { threshold = 1 } }
	local want = {}
	for i = 1, 20 do
		want[i] = ("text " .. i):rep(i * 5)
		socket.write(id, packer:frame(i % 2 + 1, want[i]))
	end
	local list = test.wait_for(function()
		local list = notes()
		return #list == 20 and list
	end)
	for i, note in ipairs(list) do
		test.eq(note, { fd, gate, want[i] })
	end
	socket.write(id, packer:frame(2, ("x"):rep(1000)) .. packer:frame(2, ("x"):rep(1001)))
	expect_end(id, fd, 1009)
	test.eq(#notes(), 21)
	rt.logged("wsgate: close 127.*: payload_len is too large", mark)
	close(id)
end)

test.case("what came before an agent was named goes to the watchdog, and after it again", function()
	open_gate {}
	local id = raw.connect(port)
	local fd = expect "open"[2]
	skynet.call(gate, "lua", "accept", fd)
	socket.write(id, frame(1, "early") .. frame(1, "late"):sub(1, 7))
	test.eq(expect("data", fd)[3], "early")
	skynet.call(gate, "lua", "forward", fd, 0x77, agent)
	socket.write(id, frame(1, "late"):sub(8))
	test.eq(test.wait_for(function() return notes()[1] end), { fd, 0x77, "late" })
	skynet.call(gate, "lua", "accept", fd)
	socket.write(id, frame(1, "again"))
	test.eq(expect("data", fd)[3], "again")
	local other = skynet.newservice "sv_agent"
	skynet.call(gate, "lua", "forward", fd, 0x78, other)
	socket.write(id, frame(2, "other"))
	test.eq(test.wait_for(function() return skynet.call(other, "lua", "notes")[1] end), { fd, 0x78, "other" })
	test.eq(#notes(), 1)
	skynet.kill(other)
	close(id)
end)

test.case("an agent may be known by name", function()
	open_gate {}
	skynet.name(".wsroute_agent", agent)
	local id, fd = connect ".wsroute_agent"
	socket.write(id, numbers(1, 3))
	expect_numbers(fd, 3)
	close(id)
end)

test.case("too many messages are slowed down, none is lost, and a line tells", function()
	local mark = rt.mark()
	open_gate { package_rate = 200, package_burst = 10 }
	local from = skynet.now()
	local id, fd = connect()
	socket.write(id, numbers(1, 60))
	expect_numbers(fd, 60)
	test.ok(skynet.now() - from >= 20)
	socket.write(id, numbers(61, 65))
	expect_numbers(fd, 65)
	rt.logged("slow down 127.*: it sends more than its package_rate of 200", mark)
	close(id)
end)

test.case("pings count, and where the policy is to close the agent gets no message more", function()
	local mark = rt.mark()
	open_gate { package_rate = 1, package_burst = 9, rate_policy = "close" }
	local id, fd = connect()
	socket.write(id, numbers(1, 1))
	expect_numbers(fd, 1)
	socket.write(id, numbers(2, 4) .. frame(9, "a") .. numbers(5, 6) .. frame(10, "b") .. numbers(7, 60))
	test.eq(raw.next(id), "10:a")
	expect_end(id, fd, 1008, "too many messages")
	-- The one that exceeds is still delivered; a second may have gone by.
	local n = #notes()
	test.ok(n >= 8 and n < 60, n)
	rt.logged("close 127.*: it sends more than its package_rate of 1 ", mark)
	close(id)
end)

test.case("bytes are limited, and what all connections of an address send", function()
	local mark = rt.mark()
	open_gate { byte_rate = 10000 }
	local from = skynet.now()
	local id = connect()
	for _ = 1, 3 do
		socket.write(id, frame(2, ("x"):rep(5000)))
	end
	socket.write(id, frame(2, "last"))
	test.wait_for(function() return #notes() == 4 end, 6000)
	test.ok(skynet.now() - from >= 45)
	rt.logged("slow down 127.*: it sends more than its byte_rate of 10000", mark)
	close(id)
	mark = rt.mark()
	open_gate { address_package_rate = 20 }
	from = skynet.now()
	local a = connect()
	local b = connect()
	socket.write(a, numbers(1, 15))
	test.wait_for(function() return #notes() == 15 end)
	-- Much more than what a pause between the two would let through.
	socket.write(b, numbers(1, 55))
	test.wait_for(function() return #notes() == 70 end, 6000)
	test.ok(skynet.now() - from >= 240)
	rt.logged("slow down 127.*: it sends more than its address_package_rate of 20", mark)
	close(a, b)
end)

test.case("what breaks the rules is answered as ever; what came before reaches the agent", function()
	open_gate { maxpackage = 100 }
	local cases = {
		{ frame(1, ("x"):rep(101)), 1009 },
		{ frame(1, ("x"):rep(60), { fin = false }) .. frame(0, ("x"):rep(60)), 1009 },
		{ frame(1, "", { length = 1 << 50 }), 1009 },
		{ frame(1, "a\xff"), 1007 },
		{ frame(1, "\xe2\x82", { fin = false }) .. frame(0, "x"), 1007 },
		{ frame(2, "x", { mask = false }), 1002 },
		{ frame(2, "x", { rsv = 4 }), 1002 },
		{ frame(0, "x"), 1002 },
		{ frame(2, "x", { fin = false }) .. frame(2, "y"), 1002 },
		{ frame(5, "x"), 1002 },
		{ frame(9, ("x"):rep(126)), 1002 },
		{ frame(2, "x", { form = 16 }), 1002 },
	}
	for i, c in ipairs(cases) do
		local mark = rt.mark()
		local id, fd = connect()
		local before = #notes()
		socket.write(id, numbers(1, 1))
		test.wait_for(function() return #notes() == before + 1 end)
		socket.write(id, numbers(2, 3) .. c[1] .. numbers(4, 9))
		local answer = raw.next(id)
		test.eq(answer:match "^8:(%d+):", tostring(c[2]), "case " .. i)
		socket.close(id)
		test.eq(expect("close", fd)[3], c[2])
		local list = notes()
		test.eq(#list, before + 3, "case " .. i)
		test.eq(list[#list][3], "3")
		-- Of a kind there is a line a second.
		if i == 1 then
			rt.logged("wsgate: close 127.*: payload_len is too large", mark)
		end
	end
	close()
end)

test.case("a message of the wrong kind is no agent's", function()
	open_gate { kind = "text" }
	local id, fd = connect()
	socket.write(id, frame(1, "1"))
	expect_numbers(fd, 1)
	socket.write(id, frame(1, "2") .. frame(2, "3") .. frame(1, "4"))
	expect_end(id, fd, 1003, "only text")
	expect_numbers(fd, 2)
	id, fd = connect()
	socket.write(id, frame(2, "first"))
	expect_end(id, fd, 1003, "only text")
	test.eq(#notes(), 2)
	close(id)
end)

test.case("who speaks to an agent is not silent, who only pings is", function()
	open_gate { first_timeout = 200 }
	local id, fd = connect()
	local silent, silent_fd = connect()
	socket.write(id, numbers(1, 1))
	socket.write(silent, frame(9, "p"))
	test.eq(raw.next(silent), "10:p")
	expect_end(silent, silent_fd, 1008, "no message in time")
	socket.write(id, numbers(2, 2))
	expect_numbers(fd, 2)
	test.eq(watchdog.take("close", fd), nil)
	close(id, silent)
end)

test.case("the peer's close comes behind its messages, with code and reason", function()
	open_gate {}
	local id, fd = connect()
	socket.write(id, numbers(1, 1))
	expect_numbers(fd, 1)
	socket.write(id, numbers(2, 40) .. raw.close_frame(1001, "away") .. numbers(41, 50))
	test.eq(raw.next(id), "8:1001:")
	test.eq(raw.next(id), "end")
	test.eq(expect("close", fd), { "close", fd, 1001, "away", n = 4 })
	expect_numbers(fd, 40)
	close(id)
end)

test.case("a line names the agent that is gone, and the connection ends", function()
	local mark = rt.mark()
	open_gate {}
	local id, fd = connect()
	local other = skynet.newservice "sv_agent"
	local id2, fd2 = connect(other)
	socket.write(id2, frame(1, "first"))
	test.wait_for(function() return #skynet.call(other, "lua", "notes") == 1 end)
	skynet.kill(other)
	socket.write(id2, numbers(1, 100))
	expect_end(id2, fd2, 1011)
	rt.logged("wsgate: agent " .. skynet.address(other) .. " of fd %(" .. fd2 .. "%) is gone", mark)
	socket.write(id, numbers(1, 2))
	expect_numbers(fd, 2)
	close(id, id2)
end)

test.case("a gate of one's own routes too, and gets the messages when the service is gone", function()
	local mark = rt.mark()
	gate, port = watchdog.open "sv_wslost"
	agent = skynet.newservice "sv_agent"
	local id = raw.connect(port)
	socket.write(id, frame(1, "mine"))
	test.eq(raw.next(id), "2:mine")
	local fd = skynet.call(gate, "lua", "route", agent, 0x55)
	socket.write(id, numbers(1, 1))
	test.eq(test.wait_for(function() return notes()[1] end), { fd, 0x55, "1" })
	skynet.kill(agent)
	socket.write(id, frame(1, "nobody's"))
	rt.logged("lost " .. skynet.address(agent) .. " of a connection %(integer%)", mark)
	socket.write(id, frame(1, "mine again"))
	test.eq(raw.next(id), "2:mine again")
	socket.close(id)
	skynet.kill(gate)
end)

test.case("what arrives after a kick reaches nobody", function()
	open_gate {}
	local id, fd = connect()
	socket.write(id, numbers(1, 1))
	expect_numbers(fd, 1)
	skynet.call(gate, "lua", "kick", fd, 4000)
	socket.write(id, numbers(2, 50))
	expect_end(id, fd, 4000)
	expect_numbers(fd, 1)
	close(id)
end)

test.case("a peer that ends within a message is told of, and leaves nothing behind", function()
	local mark = rt.mark()
	open_gate { maxclient = 1 }
	for i = 1, 3 do
		local id, fd = connect()
		socket.write(id, numbers(i, i))
		test.wait_for(function() return #notes() == i end)
		socket.write(id, frame(2, "half", { length = 50 }))
		socket.close(id)
		test.eq(expect "close", { "close", fd, nil, nil, n = 4 })
	end
	rt.logged("127.* ended within a message", mark)
	test.eq(#notes(), 3)
	close()
end)

watchdog.run()
