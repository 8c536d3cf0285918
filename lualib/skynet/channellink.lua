-- skynet.channellink: one connection of a socket channel.
--
-- Owns the socket id, the requests that wait for its answers, and the one task that
-- reads them, the dispatcher. A link is born connected and ends once: by `fail`, or by
-- its dispatcher when the peer closes or an answer cannot be read. Then every request
-- gets the error; a new connection is a new link, so that nothing of an old one can
-- reach it. The dispatcher alone closes the id. It holds no channel, so that a channel
-- nobody uses can be collected while its link waits for data.

local skynet = require "skynet"
local socket = require "skynet.socket"
local driver = require "skynet.socketdriver"
local notice = require "skynet.notice"

---@class skynet.channellink.request
---@field response function|false order mode: reads the answer
---@field session any session mode: its name
---@field parts any[]? parts that came so far
---@field broken boolean a part told of an error, which is `failure`
---@field failure any
---@field done boolean
---@field ok boolean
---@field result any

---@class skynet.channellink
---@field id integer
---@field host string
---@field port integer?
---@field sock table what response functions get
---@field err any nil while it lives, then what requests raise
local link = {}
link.__index = link

-- What a request raises when its connection is lost, for whatever reason.
local socket_error = setmetatable({}, {
	__tostring = function() return "[Error: socket]" end,
})
link.error = socket_error

-- Lines of a kind in a second.
local MAX_LINES = 100

---Log what a server did, or why none is reached: requests in a row can all find the same.
---@param kind string
---@param fmt string as for string.format
---@param ... any
function link.report(kind, fmt, ...)
	notice("channel " .. kind, MAX_LINES, fmt, ...)
end

local report = link.report

------------------------------------------------------------------- reading

local sock_methods = {}

function sock_methods.read(self, n)
	return socket.read(self[1], n) or error(socket_error)
end

function sock_methods.readline(self, sep)
	return socket.readline(self[1], sep) or error(socket_error)
end

-- The object that response functions read from.
local function new_sock(id, desc)
	return setmetatable({ id }, { __index = {
		read = desc.socket_read or sock_methods.read,
		readline = desc.socket_readline or sock_methods.readline,
	} })
end

------------------------------------------------------------------ requests

local function finish(request, ok, result)
	request.ok = ok
	request.result = result
	request.done = true
	skynet.wakeup(request)
end

-- One part of an answer; true when it was the last one.
local function add_part(request, ok, data, more)
	if not ok then
		request.failure = request.broken and request.failure or data
		request.broken = true
	elseif more or request.parts then
		local parts = request.parts or {}
		request.parts = parts
		parts[#parts + 1] = data
	end
	if more then
		return false
	elseif request.broken then
		finish(request, false, request.failure)
	else
		finish(request, true, request.parts or data)
	end
	return true
end

---Expect an answer. Does not yield; what asks for it is to be sent in the same breath, and
---later, since somebody must be there who takes the answer: see `ask`.
---@param resp any what the channel's `request` got
---@return skynet.channellink.request
function link:expect(resp)
	-- With all its fields, so that it need not grow.
	local request = { response = false, session = false, parts = nil, broken = false, failure = nil,
		done = false, ok = false, result = nil }
	if self.waiting then
		request.session = resp
		self.waiting[resp] = request
	else
		request.response = resp
		if self.last < self.first then
			skynet.wakeup(self)
		end
		self.queue[self.last + 1] = request
		self.last = self.last + 1
	end
	return request
end

---Whether a request with that session already waits.
---@param session any
---@return boolean
function link:is_waiting(session)
	return self.waiting ~= nil and self.waiting[session] ~= nil
end

---A request takes no answer any more. In order mode nothing behind it can be read
---then, so the link ends.
---@param request skynet.channellink.request
function link:give_up(request)
	if self.waiting == nil then
		self:fail(socket_error)
	elseif self.waiting[request.session] == request then
		self.waiting[request.session] = nil
	end
end

---End the link: every request raises err. What was written still goes out. Does not
---yield.
---@param err any
function link:fail(err)
	if self.err ~= nil then
		return
	end
	self.err = err
	driver.close(self.id)
	if self.waiting then
		for _, request in pairs(self.waiting) do
			finish(request, false, err)
		end
		self.waiting = {}
	else
		for i = self.first, self.last do
			finish(self.queue[i], false, err)
		end
		self.queue, self.first, self.last = {}, 1, 0
	end
	skynet.wakeup(self)
end

---Send without waiting. False: the link has failed.
---@param data string|table|userdata
---@param padding table? further pieces; then all go out behind other writes
---@return boolean
function link:write(data, padding)
	local sent = false
	if self.err ~= nil then
		return sent
	elseif padding then
		sent = socket.lwrite(self.id, data)
		for i = 1, #padding do
			sent = sent and socket.lwrite(self.id, padding[i])
		end
	else
		sent = socket.write(self.id, data)
	end
	if not sent then
		self:fail(socket_error)
	end
	return sent
end

local function expect_and_write(self, data, padding, resp)
	local request = self:expect(resp)
	return self:write(data, padding) and request
end

---The same with an answer that is expected; false: the link has failed.
---@param data string|table|userdata
---@param padding table?
---@param resp any of `expect`
---@return skynet.channellink.request|false
function link:ask(data, padding, resp)
	local before = self.last
	local ok, request = pcall(expect_and_write, self, data, padding, resp)
	if ok then
		return request
	end
	-- Nothing was sent: no answer is to come.
	if self.waiting then
		self.waiting[resp] = nil
	elseif self.last > before then
		self.queue[self.last] = nil
		self.last = before
	end
	if padding then
		-- The first pieces may be out.
		self:fail(socket_error)
	end
	error(request, 0)
end

--------------------------------------------------------------- dispatchers

-- An answer could not be read. Errors of the connection need no log line.
local function break_off(self, err)
	self:fail(err)
	if err ~= socket_error then
		pcall(report, "answer", "socket: invalid answer from %s %s %s", self.host, self.port, err)
	end
end

-- Read all parts of the first request's answer.
local function read_answer(sock, request)
	repeat
		local ok, data, more = request.response(sock)
	until add_part(request, ok, data, more)
end

local function serve_in_order(self)
	while self.err == nil do
		local request = self.queue[self.first]
		if request then
			local ok, err = pcall(read_answer, self.sock, request)
			if self.err ~= nil then
				return
			elseif not ok then
				return break_off(self, err)
			end
			self.queue[self.first] = nil
			self.first = self.first + 1
		elseif socket.disconnected(self.id) ~= false then
			self:fail(socket_error)
			report("closed", "socket closed by peer :  %s %s", self.host, self.port)
		else
			-- For a request, or for the end.
			skynet.wait(self)
		end
	end
end

local function serve_sessions(self)
	local response = self.response
	while self.err == nil do
		local called, session, ok, data, more = pcall(response, self.sock)
		if self.err ~= nil then
			return
		elseif not called then
			return break_off(self, session)
		elseif session == nil then
			return self:fail(socket_error)
		end
		local request = self.waiting[session]
		if request == nil then
			report("session", "socket: unknown session : %s from %s %s", session, self.host, self.port)
		elseif add_part(request, ok, data, more) then
			self.waiting[session] = nil
		end
	end
end

local function dispatch(self)
	local serve = self.waiting and serve_sessions or serve_in_order
	local ok, err = pcall(serve, self)
	if not ok then
		break_off(self, err)
	end
	socket.close(self.id)
end

---Take over a connected id.
---@param id integer
---@param desc table the channel's descriptor
---@param host string
---@param port integer?
---@return skynet.channellink
function link.new(id, desc, host, port)
	local self = setmetatable({
		id = id,
		host = host,
		port = port,
		response = desc.response,
		sock = new_sock(id, desc),
	}, link)
	if desc.response then
		self.waiting = {}
	else
		self.queue, self.first, self.last = {}, 1, 0
	end
	socket.onclose(id, function()
		skynet.wakeup(self)
	end)
	skynet.fork(dispatch, self)
	return self
end

return link
