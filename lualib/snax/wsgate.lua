-- snax.wsgate: how an agent answers a client of a wsgate. Any service may send to the fd
-- that the gate announced; the frame goes straight to the socket, not through the gate.
--
-- Owns nothing, keeps no state, never yields. A message is sent as one frame, not
-- compressed. After the gate has closed a connection, sending returns false.

local wscodec = require "wscodec"

---@class snax.wsgate
local wsgate = {}

-- In C, as every answer of an agent comes here.
---Send a message.
---@type fun(fd: integer, data: string|lightuserdata, kind: "text"|"binary"|integer|nil, block_kind: "text"|"binary"|nil): boolean
---data: a string, or a block, which is taken, with its size. kind: default binary; for a block its
---size, and block_kind is its kind. False: the connection is gone, or takes no more.
wsgate.send = wscodec.answer

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
	local frame = wscodec.frame(wscodec.opcode(kind), data)
	for _, fd in ipairs(fds) do
		wscodec.sendframe(fd, frame)
	end
end

return wsgate
