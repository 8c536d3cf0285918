-- skynet.mqueue (deprecated, see skynet.queue): requests of class `queue` are
-- handled one at a time by one task. Owns the list of messages that wait.

local skynet = require "skynet"

local mqueue = {}

local messages = {}
local first, last = 1, 0
local handler
local worker_token = {}

local function push(message)
	messages[last + 1] = message
	last = last + 1
	skynet.wakeup(worker_token)
end

local function pop()
	while first > last do
		skynet.wait(worker_token)
	end
	local message = messages[first]
	messages[first] = nil
	first = first + 1
	return message
end

skynet.register_protocol {
	name = "queue",
	id = skynet.PTYPE_QUEUE,
	pack = skynet.pack,
	unpack = skynet.unpack,
	dispatch = function(session, source, ...)
		push {
			source = source,
			reply = session ~= 0 and skynet.response() or nil,
			args = table.pack(...),
		}
	end,
}

local function tell(message, what, text)
	skynet.error(string.format("mqueue: message from %s %s: %s", skynet.address(message.source), what,
		tostring(text)))
end

local function answer(message, ...)
	if message.reply then
		message.reply(true, true, ...)
	elseif (...) then
		tell(message, "was a send, its result is lost", ...)
	end
end

local function serve(message)
	answer(message, handler(table.unpack(message.args, 1, message.args.n)))
end

-- The handler has raised, or its results cannot be an answer.
local function fail(message, err)
	if message.reply then
		message.reply(true, false, tostring(err))
	else
		tell(message, "failed", err)
	end
end

-- Whatever a message fails at, the next one is served.
local function work()
	while true do
		local message = pop()
		local ok, err = pcall(serve, message)
		if not ok and not pcall(fail, message, err) and message.reply then
			pcall(message.reply, false)
		end
	end
end

---Start to handle messages. Once.
---@param f fun(...): any may yield
function mqueue.register(f)
	if type(f) ~= "function" then
		require "skynet.misuse"("mqueue.register", 1, "function", f, 0, ": assertion failed!")
	elseif handler then
		error("mqueue.register: there is a handler already: assertion failed!", 2)
	end
	handler = f
	skynet.fork(work)
end

local function results(ok, ...)
	if ok then
		return ...
	end
	error(..., 2)
end

---Request and wait for the handler's results; its errors are raised. Yields.
---@param addr integer|string
---@param ... any
---@return any
function mqueue.call(addr, ...)
	return results(skynet.call(addr, "queue", ...))
end

---Request without an answer.
---@param addr integer|string
---@param ... any
function mqueue.send(addr, ...)
	return skynet.send(addr, "queue", ...)
end

---@return integer # messages that wait
function mqueue.size()
	return last - first + 1
end

return mqueue
