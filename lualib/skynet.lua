-- skynet: the module that every service uses.
--
-- The table is made by the C module skynet.task (lualib-src/lua-task*.c): messages,
-- tasks, waiting, requests and answers are C functions. What is written in Lua
-- lives in skynet.find, skynet.extra and skynet.hooks, and is loaded when one of
-- its functions is first used; so an idle service carries next to nothing.
-- skynet/meta.lua documents every function. skynet.manager adds more.
--
-- Everything belongs to the one service that required it.

---@type skynet
local skynet = require "skynet.task"

return skynet
