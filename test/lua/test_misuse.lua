-- Arguments that make no sense: the error says which, before anything happened.
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet"
require "skynet.manager"
local rt = require "rt"
local test = require "testlib"

local function refuses(text, f, ...)
	local args = table.pack(...)
	test.match(test.err(function() f(table.unpack(args, 1, args.n)) end), text)
end

test.case("names of services", function()
	refuses("test_misuse.lua.*#1 to 'skynet.register' %(string expected, got nil", skynet.register)
	refuses("#1 to 'skynet.register' %(string expected, got number 3", skynet.register, 3)
	refuses("test_misuse.lua.*#1 to 'skynet.name' %(string expected, got nil", skynet.name)
	refuses("to name 'x' takes the handle of a service, not a nil", skynet.name, "x")
	refuses("to name '.x' takes the handle of a service, not a table", skynet.name, ".x", {})
	refuses("Invalid name '': a global name has 1 to 15 bytes", skynet.register, "")
	refuses("Invalid name '123'.* is no number", skynet.name, "123", skynet.self())
end)

test.case("what a service is started with", function()
	local before = #skynet.call(".launcher", "lua", "LIST")
	refuses("launch argument #1 contains a NUL byte", skynet.newservice, "rt_agent\0x")
	refuses("launch argument #2 contains a NUL byte", skynet.newservice, "rt_agent", "a\0b")
	test.eq(#skynet.call(".launcher", "lua", "LIST"), before)
end)

test.case("protocols and their handlers", function()
	local register = skynet.register_protocol
	refuses("needs a name, a string, and an id, 0 to 255 %(name = nil, id = 7%)", register, { id = 7 })
	refuses("%(name = far, id = 999%)", register, { name = "far", id = 999 })
	refuses("protocol lua: its name or its id 99 is taken", register, { name = "lua", id = 99 })
	local mark = rt.mark()
	register { name = "slipped", id = 98, dispach = print, packed = 1, mine = 2, [1] = 3 }
	rt.logged("field 'dispach' of a protocol does not exist, did you mean 'dispatch'%?", mark)
	test.eq(#rt.lines("of a protocol does not exist", mark), 1)
	refuses("function expected, got number", skynet.dispatch, "lua", 3)
	local before = skynet.dispatch "lua"
	local callable = setmetatable({}, { __call = function() end })
	skynet.dispatch("lua", callable)
	test.eq(rawequal(skynet.dispatch "lua", callable), true)
	skynet.dispatch("lua", before or function() end)
end)

test.case("snax types and objects", function()
	local snax = require "skynet.snax"
	refuses("the name of a snax type is a string, not a nil", snax.newservice)
	refuses("the name of a snax type is a string, not a nil", snax.bind, 3)
	refuses("a snax object is wanted.* got a number", snax.kill, 3)
	refuses("a snax object is wanted.* got a nil", snax.hotfix)
	local interface = require "snax.interface"
	refuses("test_misuse.lua.*#1 to 'interface.load' %(name of a snax type expected, got nil", interface.load)
	refuses("#2 to 'interface.load' %(table expected, got nil", interface.load, "x")
	refuses("#1 to 'interface.client' %(name of a snax type expected, got number 3", interface.client, 3)
	refuses("#1 to 'interface.collect' %(function expected, got nil", interface.collect)
	refuses("#2 to 'interface.collect' %(table expected, got nil", interface.collect, print)
	refuses("#1 to 'interface.signature' %(list of methods expected, got nil", interface.signature)
end)

test.case("services from functions", function()
	local service = require "skynet.service"
	refuses("test_misuse.lua.*#1 to 'service.new' %(string expected, got nil", service.new)
	refuses("test_misuse.lua.*#1 to 'service.query' %(string expected, got nil", service.query)
	refuses("test_misuse.lua.*#1 to 'service.close' %(string expected, got table", service.close, {})
	refuses("the main function is a number", service.new, "misuse", 3)
end)

test.case("schemas, data and hosts", function()
	refuses("the schema of sproto is a text, not a nil", require "sproto".parse)
	refuses("the name of a datasheet is a string, not a nil", require "skynet.datasheet.builder".new)
	refuses("dns.resolve takes the name of a host, not a nil", require "skynet.dns".resolve)
end)

test.case("servers without a configuration", function()
	refuses("login server: it is configured with a table, got a nil", (require "snax.loginserver"))
	refuses("msgserver: it is configured with a table, got a nil", require "snax.msgserver".start)
	refuses("gateserver.start needs a table of handlers", require "snax.gateserver".start)
	refuses("wsgateserver.start needs a table of handlers", require "snax.wsgateserver".start)
end)

test.case("destinations and protocol types", function()
	for _, f in ipairs { skynet.call, skynet.send, skynet.rawcall, skynet.rawsend } do
		refuses("Invalid service address 0: 1.5 is no handle", f, 1.5, "lua")
		refuses("Invalid service address 0$", f, 0, "lua")
		refuses("unknown protocol type: no value", f, 1)
		refuses("unknown protocol type: nosuch", f, 1, "nosuch")
	end
	refuses("Invalid service address 0: 1.5 is no handle", skynet.redirect, 1.5, 1, "lua", 0)
	refuses("Invalid service address 0: 0.5 is no handle", require "skynet.core".send, 0.5, 1, 0, "x")
	refuses("#1 to 'skynet.traceproto' %(no protocol is named 'nosuch'", skynet.traceproto, "nosuch", true)
end)

test.case("functions that the framework is to call", function()
	local wanted = "function expected, got "
	refuses("'skynet.dispatch_unknown_request' %(" .. wanted .. "nil", skynet.dispatch_unknown_request)
	refuses("'skynet.dispatch_unknown_response' %(" .. wanted .. "number 3", skynet.dispatch_unknown_response, 3)
	refuses("'skynet.on_shutdown' %(" .. wanted .. "string", skynet.on_shutdown, "x")
	refuses("'skynet.info_func' %(" .. wanted .. "number 3", skynet.info_func, 3)
	refuses("#1 to 'skynet.filter' %(" .. wanted .. "nil", skynet.filter, nil, print)
	refuses("#2 to 'skynet.filter' %(" .. wanted .. "nil", skynet.filter, print)
	refuses("#1 to 'skynet.forward_type' %(table expected, got function", skynet.forward_type, print)
	refuses("#2 to 'skynet.forward_type' %(" .. wanted .. "nil", skynet.forward_type, {})
	refuses("'skynet.coroutine.wrap' %(" .. wanted .. "nil", require "skynet.coroutine".wrap)
	refuses("'skynet.init' %(function expected, got no value", skynet.init)
	local mqueue = require "skynet.mqueue"
	refuses("#1 to 'mqueue.register' %(function expected, got nil", mqueue.register)
	mqueue.register(print)
	refuses("mqueue.register: there is a handler already", mqueue.register, print)
end)

test.case("names, figures and tags", function()
	refuses("'skynet.localname' %(string expected, got table", skynet.localname, {})
	refuses("'skynet.stat' %(string expected, got boolean false", skynet.stat, false)
	refuses("#1 to 'skynet.tracecall' %(string expected, got nil", skynet.tracecall)
	refuses("'harbor.queryname' %(string expected, got nil", require "skynet.harbor".queryname)
	refuses("'harbor.globalname' %(string expected, got table", require "skynet.harbor".globalname, {})
end)

test.case("sets of requests", function()
	refuses("'skynet.request' %(a request, { addr, typename, ... } expected, got number 3", skynet.request, 3)
	local set = skynet.request()
	refuses("#1 to 'skynet.request' %(a table { addr, typename, ... } expected, got string", set, "x")
	refuses("a table { addr, typename, ... } expected, got nil", set.add, set)
	refuses("cannot request with protocol type nil", set { skynet.self() }.select, set)
	set = skynet.request { skynet.self(), "lua" }
	refuses("#1 to 'select' %(whole number of 1/100 s expected, got string", set.select, set, "soon")
	set:select()
	refuses("a set is selected once", set.select, set)
	refuses("requests are added before select", set.add, set, {})
	set:close()
end)

test.case("sockets", function()
	local socket = require "skynet.socket"
	refuses("#1 to 'socket.open' %(host, or host:port expected, got nil", socket.open)
	refuses("#2 to 'socket.open' %(port expected, got string", socket.open, "127.0.0.1", "http")
	refuses("#2 to 'socket.open' %(port expected, got number 1.5", socket.open, "127.0.0.1", 1.5)
	refuses("#3 to 'socket.open' %(whole number of 1/100 s expected, got table", socket.open, "127.0.0.1", 1, {})
	refuses("Invalid address localhost%. It names no port: say host:port", socket.open, "localhost")
	refuses("Listen error: the host is a string, not a nil", socket.listen)
	refuses("Listen error: the port is a whole number, not a table", socket.listen, "127.0.0.1", {})
	refuses("Invalid address 127.0.0.1%. It names no port", socket.listen, "127.0.0.1")
	refuses("udp dial host failed: the host is a string, not a nil", socket.udp_dial)
	refuses("udp init failed: the port is a whole number, not a string", socket.udp, print, "127.0.0.1", "x")
	refuses("#1 to 'socket.start' %(id of a socket expected, got nil", socket.start)
	refuses("#2 to 'socket.start' %(function expected, got string", socket.start, 1, "x")
	refuses("#1 to 'socket.accept' %(id of a socket expected, got string", socket.accept, "x", print)
	refuses("#2 to 'socket.accept' %(function expected, got nil", socket.accept, 1)
	refuses("#1 to 'socket.bind' %(descriptor expected, got nil", socket.bind)
	refuses("#1 to 'socket.close_fd' %(id of a socket expected, got nil", socket.close_fd)
	for _, name in ipairs { "read", "readline", "readall", "limit", "warning", "feed" } do
		refuses("test_misuse.lua.*socket is not open in this service: nil", socket[name])
	end
	local id = socket.listen("127.0.0.1", 0)
	refuses("the time limit of a socket function is a whole number of 1/100 s, not a table",
		socket.read, id, 1, {})
	socket.close(id)
end)

test.case("options that are no tables", function()
	refuses("the options of kcp are a table, not a number", require "skynet.kcp".listen, "127.0.0.1", 0, 3)
	refuses("the options of a tls context are a table, not a number", require "skynet.tls".context, 3)
	refuses("'dns.server' %(numeric address or a list of them expected, got number 3", require "skynet.dns".server, 3)
	refuses("'multicast.new' %(table expected, got number 3", require "skynet.multicast".new, 3)
end)

test.case("data", function()
	local sharetable = require "skynet.sharetable"
	refuses("'sharetable.loadtable' %(string expected, got nil", sharetable.loadtable)
	refuses("#2 to 'sharetable.loadtable' %(table expected, got nil", sharetable.loadtable, "x")
	local snax = require "skynet.snax"
	refuses("'snax.printf' %(string expected, got nil", snax.printf)
	refuses("a snax object is wanted.* got a nil", snax.profile_info)
	refuses("#2 to 'protobuf.loadfile' %(string expected, got table", require "skynet.protobuf".loadfile,
		"/dev/null", {})
end)

test.case("HTTP", function()
	local httpc, url = require "http.httpc", require "http.url"
	refuses('the url is a string such as "/a%?b=c", not a nil', httpc.get)
	refuses('the url is a string such as "/a%?b=c", not a nil', httpc.head, "127.0.0.1")
	refuses('the host is a string such as "name:port", not a nil', httpc.get, nil, "/")
	refuses('the method is a string such as "GET", not a nil', httpc.request)
	refuses('the url is a string such as', httpc.request_stream, "GET", "127.0.0.1")
	refuses("the form is a table, not a nil", httpc.post, "127.0.0.1", "/")
	refuses("header is a table or nil, not a string: the order is host, url, recvheader, header, content",
		httpc.request, "POST", "127.0.0.1", "/", {}, "a body")
	refuses("recvheader is a table or nil, not a string", httpc.get, "127.0.0.1", "/", "a body")
	refuses("recvheader is a table or nil, not a boolean", httpc.request_stream, "GET", "127.0.0.1", "/", true)
	refuses("'httpc.dns' %(address of a name server expected, got number 3", httpc.dns, 3)
	for _, name in ipairs { "decode", "encode", "parse", "parse_query", "split", "resolve" } do
		refuses("#1 to 'url." .. name .. "' %(string expected, got nil", url[name])
	end
	refuses("#2 to 'url.resolve' %(string expected, got nil", url.resolve, "http://a/")
	local routes = require "http.router".new()
	refuses('a route is a string such as "/a/:b", not a nil', routes.get, routes)
	refuses("router:use needs a string as the prefix, not a number", routes.use, routes, 3, print)
	refuses("router:static needs a string as the prefix, not a nil", routes.static, routes)
	refuses("'static.handler' %(string expected, got nil", require "http.static".handler)
	refuses("'websocket.accept' %(id of a socket expected, got nil", require "http.websocket".accept)
	refuses("a router is wanted: call its methods with a colon", routes.handle, {}, {})
	refuses("test_misuse.lua.*#1 to 'router:handle' %(request expected, got nil", routes.handle, routes)
	refuses("#1 to 'router:handle' %(request expected, got table", routes.handle, routes, {})
	refuses("#2 to 'router:handle' %(response expected, got nil", routes.handle, routes, { path = "/", method = "GET" })
end)

test.case("pieces of HTTP", function()
	local internal = require "http.internal"
	local interface = { read = print, write = print, readall = print }
	local function wrong(index, name, want, ...)
		refuses(string.format("test_misuse.lua.*#%d to 'internal%%.%s' %%(%s expected, got ", index, name, want),
			internal[name], ...)
	end
	wrong(1, "recvheader", "function")
	wrong(2, "recvheader", "table", print)
	wrong(3, "recvheader", "string", print, {}, {})
	wrong(1, "parseheader", "list of lines")
	wrong(2, "parseheader", "number of a line", {})
	wrong(3, "parseheader", "table", {}, 1)
	wrong(1, "recvchunkedbody", "function")
	wrong(2, "recvchunkedbody", "number of bytes", print, "x")
	wrong(3, "recvchunkedbody", "table", print, nil)
	wrong(4, "recvchunkedbody", "string", print, nil, {}, 1)
	wrong(4, "request_text", "table", "GET", "h", "/", "x")
	wrong(5, "request_text", "string", "GET", "h", "/", {}, 1)
	refuses('Invalid method in an HTTP request: "nil"', internal.request_text)
	refuses('Invalid host in an HTTP request: "nil"', internal.request_text, "GET", nil, "/")
	for _, name in ipairs { "request", "response", "response_stream" } do
		wrong(1, name, "table with read, write and readall")
	end
	wrong(5, "request", "table", interface, "GET", "h", "/", 1)
	wrong(6, "request", "table", interface, "GET", "h", "/", nil, 1)
	wrong(7, "request", "string", interface, "GET", "h", "/", nil, nil, 1)
	for _, name in ipairs { "response", "response_stream" } do
		wrong(2, name, "status code", interface)
		wrong(3, name, "string", interface, 200, {})
		wrong(4, name, "table", interface, 200, "")
	end
end)

test.case("TLS", function()
	local tls = require "skynet.tls"
	refuses("'tls.connect' %(string expected, got nil", tls.connect)
	refuses("#1 to 'tls.client' %(id of a socket expected, got string", tls.client, "x", "y")
	refuses("#2 to 'tls.client' %(string expected, got nil", tls.client, 1)
	refuses("#1 to 'tls.accept' %(id of a socket expected, got nil", tls.accept)
	refuses("#2 to 'tls.accept' %(context, or its options expected, got nil", tls.accept, 1)
end)

test.case("users of a message server", function()
	local msgserver = require "snax.msgserver"
	refuses("'msgserver.userid' %(string expected, got nil", msgserver.userid)
	refuses("#1 to 'msgserver.username' %(string expected, got nil", msgserver.username)
	refuses("#3 to 'msgserver.username' %(string expected, got nil", msgserver.username, "joe", 1)
	refuses("#1 to 'msgserver.login' %(string expected, got nil", msgserver.login)
	refuses("#2 to 'msgserver.login' %(string expected, got nil", msgserver.login, "joe")
end)

test.case("senders to clients of gates", function()
	refuses("'wsgate.broadcast' %(list of fds expected, got number 1", require "snax.wsgate".broadcast, 1)
	refuses("'wsgate.broadcast' %(string expected, got nil", require "snax.wsgate".broadcast, {})
	refuses("'kcpgate.send' %(fd expected, got nil", require "snax.kcpgate".send, 1)
end)

test.case("sproto and its files", function()
	local sproto, loader = require "sproto", require "sprotoloader"
	refuses("a sproto object is wanted: call its methods with a colon", sproto.encode, "type", {})
	refuses("a sproto object is wanted: call its methods with a colon", sproto.queryproto, "type")
	local schema = sproto.parse ".t { a 0 : integer }"
	refuses("type nil not found", schema.encode, schema)
	refuses("nil not found", schema.queryproto, schema)
	refuses("the name of a file is a string, not a nil", loader.register)
	refuses("the name of a sproto file is a string, not a boolean", require "sprotoparser".parse_files, true)
	refuses("'sprotoloader.register_bundle' %(string expected, got nil", loader.register_bundle)
	refuses("'sprotoloader.save' %(string expected, got nil", loader.save)
	refuses("test_misuse.lua.*#1 to 'sprotoparser.dump' %(string expected, got nil", require "sprotoparser".dump)
end)

test.case("digests, snapshots and more data", function()
	local md5, heap = require "md5", require "skynet.heap"
	refuses("'md5.sumhexa' %(string expected, got nil", md5.sumhexa)
	refuses("#1 to 'md5.hmacmd5' %(string expected, got nil", md5.hmacmd5)
	refuses("#2 to 'md5.hmacmd5' %(string expected, got nil", md5.hmacmd5, "data")
	refuses("#1 to 'heap.diff' %(snapshot expected, got nil", heap.diff)
	refuses("#1 to 'heap.text' %(snapshot expected, got table", heap.text, {})
	refuses("#1 to 'heap.sites_text' %(number expected, got string", heap.sites_text, "x")
	local builder = require "skynet.datasheet.builder"
	refuses("the data of the datasheet 'm' are a table, not a nil", builder.new, "m")
	refuses("no datasheet of this service: m", builder.update, "m", {})
	refuses("'builder.compile' %(table expected, got nil", builder.compile)
	refuses("'sharetable.queryall' %(list of names expected, got number 3", require "skynet.sharetable".queryall, 3)
end)

test.run()
