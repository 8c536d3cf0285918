-- skynet.hooks: what a service does on rare events unless it has set something
-- else: messages and answers that nobody wants, the end of the node, a start that
-- failed. Fills in skynet._hooks, which C code looks into; owns nothing.

local skynet = require "skynet"
local c = require "skynet.core"

local default = {}

---A message of a class without a handler.
---@param session integer
---@param source integer handle
---@param msg lightuserdata
---@param size integer
---@param name string of the class
function default.unknown_request(session, source, msg, size, name)
	c.error(string.format("Unknown request (%s): ", name) .. (c.tostring(msg, size) or ""))
	error(string.format("Unknown session : %d from %x", session, source))
end

---An answer that nobody waits for.
---@param session integer
---@param source integer handle
---@param msg lightuserdata
---@param size integer
function default.unknown_response(session, source, msg, size)
	c.error("Response message : " .. (c.tostring(msg, size) or ""))
	error(string.format("Unknown session : %d from %x", session, source))
end

---The node goes down; the kernel tells every service, in reverse launch order.
function default.shutdown()
	for _, f in ipairs(skynet._hooks.on_shutdown or {}) do
		local ok, err = xpcall(f, debug.traceback)
		if not ok then
			c.error("on_shutdown: " .. tostring(err))
		end
	end
	skynet.exit()
end

---The start function, or the start-up work of a module, has raised.
---@param err string
function default.start_failed(err)
	c.error("init service failed: " .. err)
	if not c.startfailed() then
		skynet.send(".launcher", "lua", "ERROR", err)
	end
	skynet.exit()
end

---A timer was armed.
---@param session integer
---@param text string where
function default.timeout_note(session, text)
	require "skynet.taskinfo".note_timeout(session, text)
end

for name, f in pairs(default) do
	skynet._hooks[name] = skynet._hooks[name] or f
end

return default
