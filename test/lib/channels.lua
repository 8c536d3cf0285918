-- channels: what tests of skynet.socketchannel begin and end with: small servers of the test's
-- own service, and channels to them.

local socket = require "skynet.socket"
local socketchannel = require "skynet.socketchannel"
local test = require "testlib"

local channels = {}

---A server whose connections `serve(id, n)` handles, each in a task; n counts them. Yields.
---@param serve fun(id: integer, n: integer) the connection is closed when it returns
---@return table # n, ids, port, listener
function channels.server(serve)
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

---End a server and its connections. Yields.
function channels.stop(self)
	socket.close(self.listener)
	for _, id in ipairs(self.ids) do
		socket.close(id)
	end
end

---A port that refuses connections. (One that a listener has just left may be another
---test's by now.)
channels.CLOSED_PORT = 1

---An iterator over the lines of a connection.
function channels.lines_of(id)
	return function()
		return socket.readline(id) or nil
	end
end

---A server that answers each line with "+line"; some lines do more. Yields.
---@param on table<string, fun(id: integer, n: integer): any>? "close" ends the connection
function channels.line_server(on)
	return channels.server(function(id, n)
		for line in channels.lines_of(id) do
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

---Reads an answer of order mode: "+x" is good, "-x" an error, "!" cannot be read.
function channels.read_line(sock)
	local line = sock:readline "\n"
	if line:sub(1, 1) == "!" then
		error("cannot read " .. line, 0)
	end
	return line:sub(1, 1) == "+", line:sub(2)
end

---A channel to a server.
---@param s table a server, or what has its port
---@param more table? further fields of the descriptor
function channels.channel(s, more)
	local desc = { host = "127.0.0.1", port = s.port }
	for k, v in pairs(more or {}) do
		desc[k] = v
	end
	return socketchannel.channel(desc)
end

---Assert that f raises exactly that value.
function channels.raises(value, f, ...)
	local ok, err = pcall(f, ...)
	test.eq(ok, false)
	test.ok(err == value, "raised " .. tostring(err))
end

---Send a line and wait for its answer. Yields.
---@param timeout integer? 1/100 s
function channels.ask(c, line, timeout)
	return c:request(line .. "\n", channels.read_line, nil, timeout)
end

return channels
