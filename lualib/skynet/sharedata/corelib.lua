-- skynet.sharedata.corelib: shared data by hand, without a service. Owns nothing.
-- A shared object is a light userdata, which may be sent to other services.

local core = require "skynet.sharedata.core"

---@class skynet.sharedata.corelib
local corelib = {}

corelib.host = {
	---An object with the data of a table and the count 0; lives until host.delete,
	---and as long as the count is not 0.
	---@type fun(tbl: table): lightuserdata
	new = core.host_new,
	---@type fun(cobj: lightuserdata)
	delete = core.host_delete,
	---@type fun(cobj: lightuserdata): integer
	getref = core.host_getref,
	---@type fun(cobj: lightuserdata): integer # the new count
	incref = core.host_incref,
	---@type fun(cobj: lightuserdata): integer # the new count
	decref = core.host_decref,
	---Allow corelib.update of proxies of this object.
	---@type fun(cobj: lightuserdata)
	markdirty = core.host_markdirty,
}

---A proxy of an object; counts as a reference until it is collected.
---@param cobj lightuserdata
---@return table
function corelib.box(cobj)
	return core.proxy(cobj) or error("id of a shared object expected", 2)
end

---Move a proxy to another object at its next access.
---@param box table
---@param newcobj lightuserdata
function corelib.update(box, newcobj)
	if not core.is_dirty(box) then
		error("Only dirty object can be update", 2)
	end
	if not core.pend(box, newcobj) then
		error("id of a shared object expected", 2)
	end
end

---Move a proxy now, if it is going to move.
---@type fun(box: table)
corelib.flush = core.flush

---A deep copy of what is at a path, or nothing.
---@type fun(cobj: lightuserdata, ...: string|integer): any
corelib.copy = core.copy

---The key after `key` and its value; holes are skipped.
---@type fun(box: table, key: any): any, any
corelib.next = core.next

return corelib
