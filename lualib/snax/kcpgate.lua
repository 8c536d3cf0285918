-- snax.kcpgate: how an agent answers a client of a kcpgate (service/kcpgate.lua).
--
-- Owns nothing, never yields. Several kcpgates number their clients independently, so the
-- gate is named with the fd.

local skynet = require "skynet"
local core = require "skynet.core"

---@class snax.kcpgate
local kcpgate = {}

---Send a message to a client. Should the client not keep up (`send_limit`), or be gone,
---the gate drops the message, and closes the connection in the first case.
---@param gate integer|string the gate's address
---@param fd integer as announced by the gate
---@param data string|lightuserdata not empty; a block (skynet_malloc) is taken
---@param sz integer? of a block
function kcpgate.send(gate, fd, data, sz)
	if not math.tointeger(fd) then
		require "skynet.misuse"("kcpgate.send", 2, "fd", fd)
	end
	core.redirect(gate, 0, skynet.PTYPE_CLIENT, fd, data, sz)
end

return kcpgate
