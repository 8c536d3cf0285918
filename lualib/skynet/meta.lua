---@meta skynet.task

-- What the C functions of `skynet` take, give and raise, for editors and for the
-- reference pages. Never loaded. A function without "Yields" does not suspend the
-- running task. "cs" is 1/100 s. An address is a handle (integer), ":hex", a local
-- name ".name", or the global name of a cluster.
--
-- Functions that yield raise "attempt to yield ..." where a task cannot be
-- suspended: on the main chunk, across a C function, or in a coroutine that is
-- neither a task nor of skynet.coroutine. They have done nothing then.

---@class skynet : skynet.find, skynet.extra, skynet.manager
---@field _proto table message classes by name and by id
---@field PTYPE_TEXT integer
---@field PTYPE_RESPONSE integer
---@field PTYPE_MULTICAST integer
---@field PTYPE_CLIENT integer
---@field PTYPE_SYSTEM integer
---@field PTYPE_HARBOR integer
---@field PTYPE_SOCKET integer
---@field PTYPE_ERROR integer
---@field PTYPE_QUEUE integer
---@field PTYPE_DEBUG integer
---@field PTYPE_LUA integer
---@field PTYPE_SNAX integer
---@field PTYPE_TRACE integer
local skynet = {}

---@alias skynet.address integer|string

---@class skynet.class
---@field name string
---@field id integer 0..255
---@field pack? fun(...): string|lightuserdata, integer?
---@field unpack? fun(msg: lightuserdata, size: integer): ...
---@field dispatch? fun(session: integer, source: integer, ...)
---@field trace? boolean true: trace every message; false: ignore trace tags

------------------------------------------------------------------- start-up

---Begin to handle messages; start_func runs as the first task, and the service
---counts as started when it returns. Once, in the main chunk.
---@param start_func fun() may yield
function skynet.start(start_func) end

---Run the functions given to skynet.init and then start_func in the running task,
---tell the launcher how it went, and exit when it failed. Yields.
---@param start_func fun()
function skynet.init_service(start_func) end

---Register start-up work of a service or module that may yield. In its main
---chunk: f runs before the start function, or before require returns. In a task
---that loads nothing: f runs at once (and then this yields if f does).
---@param f fun()
function skynet.init(f) end

------------------------------------------------------------- message classes

---Add a message class. Its table is kept: later changes of fields take effect.
---Raises "assertion failed!" when the name or id is taken or out of range.
---@param class skynet.class
function skynet.register_protocol(class) end

---Read or replace the handler of a message class.
---@param typename string
---@param func? fun(session: integer, source: integer, ...)
---@return function? # the handler so far
function skynet.dispatch(typename, func) end

---Handle a message as if the kernel had delivered it. Raises what its handlers
---raise, as one text. The memory stays the caller's.
---@param type integer
---@param msg lightuserdata
---@param size integer
---@param session integer
---@param source integer
function skynet.dispatch_message(type, msg, size, session, source) end

-------------------------------------------------------------------- sending

---Send without asking for an answer.
---@param addr skynet.address
---@param typename string
---@param ... any what the class's pack function takes
---@return integer|false|nil # 0; nothing: no such service; false: too large
function skynet.send(addr, typename, ...) end

---Send bytes as they are.
---@param addr skynet.address
---@param typename string
---@param msg string|lightuserdata memory of a pointer is given away
---@param size? integer for a pointer
---@return integer|false|nil # as send
function skynet.rawsend(addr, typename, msg, size) end

---Send in the name of another service, e.g. to pass a request on: the answer of
---the receiver goes to `source`.
---@param addr skynet.address
---@param source integer
---@param typename string
---@param session integer
---@param msg string|lightuserdata
---@param size? integer
---@return integer|false|nil # session; nothing and false as send
function skynet.redirect(addr, source, typename, session, msg, size) end

---A session number that nothing in this service waits for.
---@return integer
function skynet.genid() end

------------------------------------------------------------------- requests

---Request and wait for the answer. Yields. Raises "call to invalid address" when
---there is no such service, "... call failed" when the answerer fails (its reason
---comes first), and what packing and unpacking raise.
---@param addr skynet.address
---@param typename string
---@param ... any
---@return any ...
function skynet.call(addr, typename, ...) end

---As call, but raises "call timeout" when no answer has come in time; a later one
---is swallowed. Yields.
---@param cs integer
---@param addr skynet.address
---@param typename string
---@param ... any
---@return any ...
function skynet.call_timeout(cs, addr, typename, ...) end

---As call without packing and unpacking. Yields.
---@param addr skynet.address
---@param typename string
---@param msg string|lightuserdata memory of a pointer is given away
---@param size? integer
---@return lightuserdata msg valid until the task is suspended again
---@return integer size
function skynet.rawcall(addr, typename, msg, size) end

-------------------------------------------------------------------- answers

---Answer the request that started the running task. Raises "No session" when
---nothing is owed (any more).
---@param msg? string|lightuserdata memory of a pointer is given away
---@param size? integer
---@return boolean # false: it was a plain send, or the requester is gone
function skynet.ret(msg, size) end

---ret(pack(...)).
---@param ... any
---@return boolean
function skynet.retpack(...) end

---Nothing is owed: the session of the message means something else.
function skynet.ignoreret() end

---@return integer? session of the request while its answer is owed (0: a plain send)
---@return integer? source
function skynet.context() end

---Take the debt over, to answer later from any task. The result is called with
---  true, ...    answer pack(...); gives: was it delivered
---  false [, why] fail the request; gives: was it delivered
---  "TEST"       nothing; gives: is the answer still wanted
---For a plain send it does nothing. Dropped unused, it fails the request.
---Raises "no session" when nothing is owed.
---@param pack? fun(...): string|lightuserdata, integer?
---@return fun(ok: boolean|"TEST", ...): boolean?
function skynet.response(pack) end

---------------------------------------------------------------------- tasks

---Run func as a task of its own when the running task is suspended or ends.
---@param func function may yield
---@param ... any
---@return thread
function skynet.fork(func, ...) end

---Run func as a task after a delay.
---@param cs integer 0: behind all messages that wait now
---@param func fun() may yield
---@return thread
function skynet.timeout(cs, func) end

---Suspend the running task for a time. Yields.
---@param cs integer
---@param token? any what wakeup needs; default: the running coroutine
---@return "BREAK"? # when it was woken
function skynet.sleep(cs, token) end

---sleep(0): let the messages that wait be handled first. Yields.
---@return "BREAK"?
function skynet.yield() end

---Suspend the running task until it is woken. Yields.
---@param token? any default: the running coroutine
function skynet.wait(token) end

---Let the task that sleeps or waits on token go on, when the running task is
---suspended or ends. Once per sleep: more calls change nothing.
---@param token any
---@return true? # nothing when nobody waits on it
function skynet.wakeup(token) end

---End a task that is not running: its close variables run, and its requester gets
---an error.
---@param task thread|string coroutine, or how a dump names it: "thread: 0x...", "0x...", "session: n"
---@return thread|function? # the ended one; the function of a timer named by its session
function skynet.killthread(task) end

------------------------------------------------------------------------ end

---End this service. Owed answers fail, tasks are closed, those that owe us
---answers are told. Never returns.
function skynet.exit() end

---Act as if addr had been reported dead: calls to it fail.
---@param addr skynet.address
function skynet.term(addr) end

-------------------------------------------------------------------- tracing

---Give the running task a trace tag, which travels with its requests.
---@param info? string
function skynet.trace(info) end

---@return string|false|nil # tag of the running task; false: tracing is off for it
function skynet.tracetag() end

---Write one trace line.
---@param tag string
---@param text string
---@param thread? thread|integer whose call sites follow, or a level here
---@param level? integer
function skynet.tracelog(tag, text, thread, level) end

---@param typename string
---@param flag boolean? true: trace every message of the class; false: ignore tags
function skynet.traceproto(typename, flag) end

------------------------------------------------------------------ the kernel

---@return integer # own handle
function skynet.self() end

---@param addr skynet.address
---@return string # ":%08x" for a handle, else tostring(addr)
function skynet.address(addr) end

---@return integer # cs since the node started
function skynet.now() end

---@return integer # monotonic clock in ns
function skynet.hpc() end

---@param key string
---@return string? # value of the node's configuration
function skynet.getenv(key) end

---Write a line to the log: all arguments through tostring, joined by blanks.
---@param ... any
function skynet.error(...) end

---@param handle integer
---@return integer harbor id of its node
---@return boolean remote
function skynet.harbor(handle) end

---Serialise. The memory is the caller's, to send or to trash.
---@param ... any nil, boolean, number, string, light userdata, tables of these
---@return lightuserdata msg
---@return integer size
function skynet.pack(...) end

---@param ... any
---@return string
function skynet.packstring(...) end

---@param msg string|lightuserdata
---@param size? integer
---@return any ...
function skynet.unpack(msg, size) end

---@param msg lightuserdata
---@param size integer
---@return string
function skynet.tostring(msg, size) end

---Free a message.
---@param msg lightuserdata|string
---@param size? integer
function skynet.trash(msg, size) end

return skynet
