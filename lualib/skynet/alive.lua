-- skynet.alive: whether a handle names a live service of this node.
-- For registries (launcher, service_mgr, ...) that must not hand out handles
-- of services which are gone. Owns nothing; a negative answer is final, since
-- handles are not reused while stale copies may be around.

local core = require "skynet.core"

---Whether the service lives. A handle of another node counts as alive, because
---only that node knows. Does not yield.
---@type fun(handle: integer): boolean
return core.alive
