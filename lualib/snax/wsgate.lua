-- snax.wsgate: how an agent answers a client of a wsgate. Any service may send to the fd
-- that the gate announced; the frame goes straight to the socket, not through the gate.
--
-- Owns nothing, keeps no state, never yields. A message is sent as one frame, not
-- compressed. After the gate has closed a connection, sending returns false.

local core = require "skynet.core"
local wscodec = require "wscodec"

local send, type = wscodec.send, type

---@class snax.wsgate
local wsgate = {}

local BINARY = 2
local OPCODE = { text = 1, binary = BINARY }

-- A block is taken, also where the kind is wrong.
local function refuse(kind, block)
	if block then
		core.trash(block, 0)
	end
	error("wsgate: kind must be text or binary, not " .. tostring(kind), 3)
end

---Send a message.
---@param fd integer
---@param data string|lightuserdata a string, or a block, which is taken, with its size
---@param kind "text"|"binary"|integer|nil default binary; for a block its size
---@param block_kind "text"|"binary"|nil for a block
---@return boolean # false: the connection is gone, or takes no more
function wsgate.send(fd, data, kind, block_kind)
	if type(data) == "userdata" then
		local op = block_kind and (OPCODE[block_kind] or refuse(block_kind, data)) or BINARY
		return send(fd, op, data, kind)
	end
	return send(fd, kind and (OPCODE[kind] or refuse(kind)) or BINARY, data)
end

---Send one message to many connections; it is framed once.
---@param fds integer[]
---@param data string
---@param kind "text"|"binary"|nil
function wsgate.broadcast(fds, data, kind)
	if type(fds) ~= "table" then
		require "skynet.misuse"("wsgate.broadcast", 1, "list of fds", fds)
	elseif type(data) ~= "string" then
		require "skynet.misuse"("wsgate.broadcast", 2, "string", data)
	end
	local frame = wscodec.frame(kind and (OPCODE[kind] or refuse(kind)) or BINARY, data)
	for _, fd in ipairs(fds) do
		wscodec.sendframe(fd, frame)
	end
end

return wsgate
