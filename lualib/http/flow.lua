-- http.flow: waiting for a peer that takes what is written more slowly than it is
-- made. The socket warns when about 1 MiB is on its way, and when all of it is gone;
-- in between a writer should wait here. Owns which object a socket belongs to.

local skynet = require "skynet"
local socket = require "skynet.socket"

---@class http.flow
local flow = {}

---@class http.flowing
---@field id integer of the socket
---@field congested boolean? the peer should be waited for
---@field closed boolean? it takes nothing more
---@field writer thread? the task that waits

---@type table<integer, http.flowing>
local attached = {}

---Let a writer go on that waits.
---@param object http.flowing
function flow.settle(object)
	object.congested = nil
	local co = object.writer
	if co then
		object.writer = nil
		skynet.wakeup(co)
	end
end

---What takes the warnings (socket.warning) of sockets whose objects are in a table.
---@param objects table<integer, http.flowing> by id
---@return fun(id: integer, kib: integer)
function flow.warner(objects)
	-- The peer has ended its side. It may still read, or be gone altogether.
	local function on_close(id)
		local object = objects[id]
		if object and object.congested and not socket.write(id, "") then
			object.closed = true
			flow.settle(object)
		end
	end
	return function(id, kib)
		local object = objects[id]
		if object and kib > 0 then
			object.congested = true
			-- Only now it matters; most connections never come here.
			socket.onclose(id, on_close)
		elseif object then
			flow.settle(object)
		end
	end
end

local on_warning = flow.warner(attached)

---Take the warnings and the end of a started socket.
---@param object http.flowing
function flow.attach(object)
	attached[object.id] = object
	socket.warning(object.id, on_warning)
end

---Take no more of a socket, which lives on.
---@param id integer
function flow.release(id)
	socket.onclose(id, nil)
	if not socket.invalid(id) then
		socket.warning(id, nil)
	end
end

---@param object http.flowing
function flow.detach(object)
	local id = object.id
	if attached[id] == object then
		attached[id] = nil
		flow.release(id)
	end
end

---Wait until the peer has taken what was written, or flow.settle. Yields.
---@param object http.flowing
function flow.wait(object)
	if object.congested and not object.closed then
		object.writer = coroutine.running()
		skynet.wait(object.writer)
	end
end

return flow
