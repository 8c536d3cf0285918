-- skynet.nomemory: the error for want of memory, as Lua raises it. It is one string, always: who
-- catches an error knows it by comparing. lualib-src/lua-nomem.h is the same for C.

return "not enough memory"
