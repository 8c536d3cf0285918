-- Who polls the network: nobody waits for a worker that is stuck in a callback.
-- also with: socket_thread = 3

local skynet = require "skynet"
local socket = require "skynet.socket"
local test = require "testlib"

local function echo_port()
	local id, _, port = socket.listen("127.0.0.1", 0, 256)
	socket.start(id, function(client)
		socket.start(client)
		local data = socket.read(client)
		while data do
			socket.write(client, data)
			data = socket.read(client)
		end
		socket.close(client)
	end)
	return port
end

test.case("connections are served while a worker that polled is stuck", function()
	if tonumber(skynet.getenv "thread") < 2 then
		test.skip "needs a worker that is free"
	end
	local port = echo_port()
	local spinner = skynet.newservice "socketspinner"
	local stuck = socket.open("127.0.0.1", skynet.call(spinner, "lua"))
	socket.write(stuck, "go")
	test.eq(socket.read(stuck, 8), "spinning")
	for i = 1, 50 do
		local id = assert(socket.open("127.0.0.1", port))
		socket.write(id, "echo " .. i)
		test.eq(socket.read(id, #("echo " .. i)), "echo " .. i)
		socket.close(id)
	end
	skynet.setenv("spinner_may_end", "true")
	test.eq(socket.read(stuck, 5), "ended")
	socket.close(stuck)
end)

test.case("requests made before a long callback are served during it", function()
	if tonumber(skynet.getenv "thread") < 2 then
		test.skip "needs a worker that is free"
	end
	-- The listener answers the connection while this very callback spins.
	local id, _, port = socket.listen("127.0.0.1", 0)
	socket.start(id, function() end)
	local driver = require "skynet.socketdriver"
	local client = driver.connect("127.0.0.1", port)
	local deadline = skynet.now() + 6000
	local found
	while not found and skynet.now() < deadline do
		for _, v in ipairs(driver.info()) do
			found = found or v.id == client
		end
	end
	test.ok(found, "the connection was not made")
	socket.close_fd(client)
	socket.close(id)
end)

test.case("a burst of connections from many tasks", function()
	local port = echo_port()
	local done = 0
	for i = 1, 100 do
		skynet.fork(function()
			local id = assert(socket.open("127.0.0.1", port))
			for k = 1, 10 do
				local text = ("%d-%d"):format(i, k)
				socket.write(id, text)
				test.eq(socket.read(id, #text), text)
			end
			socket.close(id)
			done = done + 1
		end)
	end
	test.wait_for(function() return done == 100 end)
end)

test.run()
