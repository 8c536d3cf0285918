-- watchdog: the test as the watchdog of the gates that it opens, and the packages of their
-- clients (two length bytes, most significant first, and the payload).

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local test = require "testlib"

local watchdog = {}

---What gates told and nobody took yet, in order: { what, fd, ..., n = }.
local told = {}
watchdog.told = told

-- fd -> true, of those that were told to be open and not yet to be gone
local connected = {}

---Forget what was told.
function watchdog.forget()
	for i = #told, 1, -1 do
		told[i] = nil
	end
end

---A notice, which is taken out; nil when there is none.
---@param what string
---@param fd integer? default: of any
function watchdog.take(what, fd)
	for i, t in ipairs(told) do
		if t[1] == what and (not fd or t[2] == fd) then
			return table.remove(told, i)
		end
	end
end

---Wait until each connection that was told to be open has been told to be gone; then forget all.
---Yields.
function watchdog.settle()
	test.wait_for(function() return next(connected) == nil end, nil, "the end of each connection to be told")
	watchdog.forget()
end

---Wait for a notice, which is taken out. Yields.
---@param what string
---@param fd integer? default: of any
function watchdog.expect(what, fd)
	return test.wait_for(function() return watchdog.take(what, fd) end, nil, what)
end

-- The gate opened last, and those before it -> true.
local current
local former = {}

---Launch a gate and open it on a free port, on 127.0.0.1 unless conf has an address. What
---earlier ones told and tell is forgotten: they are dead, though one may still be in the
---middle of its last message. Yields.
---@param name string of the service
---@param conf table? of its command open
---@return integer gate
---@return integer port
---@return string address
function watchdog.open(name, conf)
	if current then
		former[current] = true
	end
	local gate = skynet.newservice(name)
	current = gate
	watchdog.forget()
	connected = {}
	conf = conf or {}
	conf.address, conf.port = conf.address or "127.0.0.1", 0
	local address, port = skynet.call(gate, "lua", "open", conf)
	return gate, port, address
end

---Connect to a gate, and tell it what becomes of the connection. Yields.
---@param gate integer
---@param host string
---@param port integer
---@param command string of the gate: accept, forward
---@param ... any its arguments behind the descriptor
---@return integer id of the client's socket
---@return integer fd the gate's
function watchdog.connect(gate, host, port, command, ...)
	local id = assert(socket.open(host, port))
	local fd = watchdog.expect "open"[2]
	skynet.call(gate, "lua", command, fd, ...)
	return id, fd
end

---End clients, and services.
---@param ids integer[] sockets
---@param ... integer handles
function watchdog.close(ids, ...)
	for _, id in ipairs(ids) do
		socket.close(id)
	end
	for _, handle in ipairs { ... } do
		skynet.kill(handle)
	end
end

---@param text string
---@return string package
function watchdog.frame(text)
	return string.pack(">s2", text)
end

---The packages of the numbers `first` to `last`.
---@param first integer
---@param last integer
---@return string
function watchdog.numbers(first, last)
	local list = {}
	for i = first, last do
		list[#list + 1] = watchdog.frame(tostring(i))
	end
	return table.concat(list)
end

local function dispatch(session, source, cmd, ...)
	if cmd == "socket" then
		if not former[source] then
			told[#told + 1] = table.pack(...)
			local what, fd = ...
			if what == "open" or what == "close" then
				connected[fd] = what == "open" or nil
			end
		end
	elseif session ~= 0 then
		skynet.retpack(nil)
	end
end

---test.run in a service that gates may call.
---@param setup fun()? runs first, in the start function
function watchdog.run(setup)
	test.run(function()
		if setup then
			setup()
		end
		skynet.dispatch("lua", dispatch)
	end)
end

return watchdog
