-- http.router and http.static over a real connection (RFC 9110, 13 and 14).

local socket = require "skynet.socket"
local test = require "testlib"
local codec = require "http.codec"
local file = require "http.file"
local gzip = require "http.gzip"
local http_server = require "http.server"
local router = require "http.router"

local app = router.new()
local server

-- One request; status, header text, body.
local function ask(method, target, header)
	local id = assert(socket.open("127.0.0.1", server.port))
	socket.write(id, string.format("%s %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n%s\r\n", method, target,
		header or ""))
	local got = socket.readall(id) or ""
	socket.close(id)
	local head, body = got:match "^(.-\r\n)\r\n(.*)$"
	return tonumber(head:match "^HTTP/1.1 (%d+)"), head, body
end

local function body(...)
	return (select(3, ask(...)))
end

local function answer(text)
	return function(req, res)
		local params = {}
		for name, value in pairs(req.params) do
			params[#params + 1] = name .. "=" .. value
		end
		table.sort(params)
		res:send(200, text .. "(" .. table.concat(params, ",") .. ")")
	end
end

local trace = {}
app:use(function(_, res, next)
	res:set("X-Outer", "1")
	trace[#trace + 1] = "outer"
	next()
	trace[#trace + 1] = "left"
end)
app:use("/admin", function(req, res, next)
	trace[#trace + 1] = "admin"
	if not req.header.authorization then
		return res:send(401)
	end
	next()
end)
app:get("/", answer "root")
app:get("/user/:name", answer "user")
app:get("/user/me", answer "me")
app:post("/user/:name", answer "posted")
app:get("/user/:name/items/:item", answer "item")
app:get("/deep/*rest", answer "deep")
app:any("/any", answer "any")
app:get("/admin/panel", answer "panel")
app:get("/a b/ü", answer "decoded")
app:get("/query", function(req, res)
	local q = req:query_pairs()
	res:send(200, tostring(q.a) .. tostring(q.b))
end)
app:post("/form", function(req, res) res:send(200, req:form().a) end)
app:get("/to", function(_, res) res:redirect "/user/me" end)

local root = os.tmpname()
os.remove(root)
os.execute("mkdir -p " .. root .. "/www/sub " .. root .. "/www/empty")
local function write(name, data)
	local f = assert(io.open(root .. name, "w"))
	f:write(data)
	f:close()
end
local long = ("0123456789"):rep(20000)
write("/secret.txt", "secret")
write("/www/index.html", "<p>index</p>")
write("/www/ten.bin", "0123456789")
write("/www/none.txt", "")
write("/www/.hidden", "hidden")
write("/www/long.txt", long)
write("/www/sub/index.html", "sub")
os.execute(("ln -s %s/secret.txt %s/www/link.txt; ln -s %s %s/www/up; mkfifo %s/www/pipe"):format(root, root,
	root, root, root))
app:static("/files/", root .. "/www", { types = { bin = "application/x-test" }, cache_control = "max-age=60" })

test.case("a router serves a port", function()
	server = http_server.listen("127.0.0.1", 0, app, { linger_timeout = 2 })
	test.eq((ask("GET", "/")), 200)
end)

test.case("routes are chosen by segments, fixed ones first", function()
	for target, want in pairs {
		["/"] = "root()",
		["/user/al%20ice"] = "user(name=al ice)",
		["/user/a+b"] = "user(name=a+b)",
		["/user/me"] = "me()",
		["/user/me/items/3"] = "item(item=3,name=me)",
		["/deep/a/b%20c/"] = "deep(rest=a/b c/)",
		["/deep/"] = "deep(rest=)",
		["/any"] = "any()",
		["/a%20b/%C3%BC"] = "decoded()",
		["/a%20b/ü"] = "decoded()",
		["http://other.example/user/x?y"] = "user(name=x)",
		["http://other.example"] = "root()",
	} do
		test.eq(body("GET", target), want, target)
	end
	test.eq(body("POST", "/user/x"), "posted(name=x)")
	test.eq(body("PUT", "/any"), "any()")
end)

test.case("what has no route gets 404, 405 or 400", function()
	test.eq((ask("GET", "/nothing")), 404)
	test.eq((ask("GET", "/user")), 404)
	test.eq((ask("GET", "/user/")), 404)
	test.eq((ask("GET", "/user/x/y")), 404)
	local status, head = ask("DELETE", "/user/x")
	test.eq(status, 405)
	test.match(head, "allow: GET, HEAD, OPTIONS, POST\r\n")
	status, head = ask("OPTIONS", "/user/x")
	test.eq(status, 204)
	test.match(head, "allow: GET")
	test.eq((ask("OPTIONS", "*")), 204)
	for _, target in ipairs { "/user/%zz", "/user/%2f", "/user/%00", "*", "user" } do
		test.eq((ask("GET", target)), 400, target)
	end
	test.eq((ask("HEAD", "/user/x")), 200)
	test.eq(body("HEAD", "/user/x"), "")
end)

test.case("middleware surrounds handlers and can answer itself", function()
	trace = {}
	local status, head = ask("GET", "/admin/panel")
	test.eq({ status, trace }, { 401, { "outer", "admin", "left" } })
	test.match(head, "x%-outer: 1")
	trace = {}
	test.eq((ask("GET", "/admin/panel", "Authorization: x\r\n")), 200)
	test.eq(trace, { "outer", "admin", "left" })
	trace = {}
	test.eq((ask("GET", "/administrator")), 404)
	test.eq(trace, { "outer", "left" })
	-- An encoded letter is no way around.
	test.eq((ask("GET", "/%61dmin/panel")), 401)
end)

test.case("queries, forms and redirects", function()
	test.eq(body("GET", "/query?a=1+2&b=%26"), "1 2&")
	test.eq((ask("GET", "/query?a=%zz")), 400)
	test.eq(body("POST", "/form", "Content-Length: 7\r\n\r\na=%41+b"), "A b")
	local status, head = ask("GET", "/to")
	test.eq(status, 302)
	test.match(head, "location: /user/me\r\n")
end)

test.case("wrong routes are refused when they are made", function()
	for _, case in ipairs {
		{ "x", "begins with a slash" }, { "/*a/b", "invalid segment" }, { "/:", "invalid segment" },
		{ "/user/:other", "calls 'other'" }, { "/any", "is there already", "*" },
	} do
		local ok, err = pcall(app.route, app, case[3] or "GET", case[1], function() end)
		test.eq(ok, false)
		test.match(err, case[2])
	end
	test.match(select(2, pcall(app.get, app, "/f")), "needs a function")
	test.match(select(2, pcall(app.static, app, "/f", root .. "/missing")), "cannot open folder")
end)

test.case("files have types, dates and tags", function()
	local status, head, text = ask("GET", "/files/ten.bin")
	test.eq({ status, text }, { 200, "0123456789" })
	test.match(head, "content%-type: application/x%-test\r\n")
	test.match(head, "content%-length: 10\r\n")
	test.match(head, "accept%-ranges: bytes\r\n")
	test.match(head, "cache%-control: max%-age=60\r\n")
	test.match(head, "last%-modified: %a%a%a, ")
	test.match(head, 'etag: "%x+%-%x+"\r\n')
	test.match(select(2, ask("GET", "/files/")), "content%-type: text/html")
	test.eq(body("GET", "/files/"), "<p>index</p>")
	test.eq(body("GET", "/files/sub/"), "sub")
	test.eq(body("GET", "/files/none.txt"), "")
	test.eq(body("GET", "/files/long.txt"), long)
	status, head, text = ask("HEAD", "/files/long.txt")
	test.eq({ status, text }, { 200, "" })
	test.match(head, "content%-length: 200000\r\n")
	status, head = ask("GET", "/files/sub")
	test.eq(status, 301)
	test.match(head, "location: /files/sub/\r\n")
	test.eq((ask("POST", "/files/ten.bin")), 405)
end)

test.case("no path leads out of the folder", function()
	for _, path in ipairs {
		"../secret.txt", "%2e%2e/secret.txt", "sub/../../secret.txt", "./ten.bin", "sub/./index.html",
		"..", ".", "/ten.bin", "sub//index.html", ".hidden", "link.txt", "up/secret.txt", "up/", "pipe",
		"..%5csecret.txt", "missing", "ten.bin/", "ten.bin/x", "empty/", "%c0%ae%c0%ae/secret.txt",
		("x"):rep(300), ("x/"):rep(500),
	} do
		local status, _, text = ask("GET", "/files/" .. path)
		test.eq(status, 404, path)
		assert(not text:find "secret")
	end
	for _, path in ipairs { "..%2fsecret.txt", "ten.bin%00.html" } do
		test.eq((ask("GET", "/files/" .. path)), 400, path)
	end
	-- Not a redirect to another host.
	test.eq((ask("GET", "//files/sub")), 404)
end)

test.case("ranges", function()
	for range, want in pairs {
		["bytes=0-3"] = { 206, "0123", "0-3/10" },
		["bytes=5-"] = { 206, "56789", "5-9/10" },
		["bytes=-3"] = { 206, "789", "7-9/10" },
		["bytes=-30"] = { 206, "0123456789", "0-9/10" },
		["bytes=9-100"] = { 206, "9", "9-9/10" },
		["bytes=10-"] = { 416, "", "*/10" },
		["bytes=99999999999999999999-"] = { 416, "", "*/10" },
		["bytes=-0"] = { 416, "", "*/10" },
		["bytes=3-1"] = { 200, "0123456789" },
		["bytes=a-b"] = { 200, "0123456789" },
		["bytes=-"] = { 200, "0123456789" },
		["lines=0-1"] = { 200, "0123456789" },
		["bytes=0-1,3-4"] = { 416, "only one range at a time\n", "*/10" },
	} do
		local status, head, text = ask("GET", "/files/ten.bin", "Range: " .. range .. "\r\n")
		test.eq({ status, text, head:match "content%-range: bytes ([^\r]*)" }, want, range)
	end
	test.eq(body("GET", "/files/long.txt", "Range: bytes=65530-131079\r\n"), long:sub(65531, 131080))
	test.eq((ask("HEAD", "/files/ten.bin", "Range: bytes=0-1\r\n")), 200)
end)

test.case("conditions", function()
	local _, head = ask("GET", "/files/ten.bin")
	local etag, date = head:match "etag: ([^\r]+)", head:match "last%-modified: ([^\r]+)"
	local later, earlier = codec.date(os.time() + 3600), "Sun, 06 Nov 1994 08:49:37 GMT"
	for _, case in ipairs {
		{ 304, "If-None-Match: " .. etag },
		{ 304, "If-None-Match: W/" .. etag },
		{ 304, 'If-None-Match: "x", ' .. etag },
		{ 304, "If-None-Match: *" },
		{ 200, 'If-None-Match: "x"' },
		{ 304, "If-Modified-Since: " .. date },
		{ 304, "If-Modified-Since: " .. later },
		{ 200, "If-Modified-Since: " .. earlier },
		{ 200, "If-Modified-Since: yesterday" },
		{ 200, 'If-None-Match: "x"\r\nIf-Modified-Since: ' .. later },
		{ 200, "If-Match: " .. etag },
		{ 412, "If-Match: W/" .. etag },
		{ 412, 'If-Match: "x"' },
		{ 412, "If-Unmodified-Since: " .. earlier },
		{ 200, "If-Unmodified-Since: " .. later },
		{ 206, "Range: bytes=0-1\r\nIf-Range: " .. etag },
		{ 206, "Range: bytes=0-1\r\nIf-Range: " .. date },
		{ 200, 'Range: bytes=0-1\r\nIf-Range: "x"' },
	} do
		local status, text_head, text = ask("GET", "/files/ten.bin", case[2] .. "\r\n")
		test.eq(status, case[1], case[2])
		if status == 304 then
			test.eq(text, "")
			assert(not text_head:find "content%-length")
		end
	end
end)

test.case("text is compressed for those who take it", function()
	local function unpacked(text)
		local z = gzip.inflater()
		z:push(text)
		local pieces = {}
		for piece in z.pull, z do
			pieces[#pieces + 1] = piece
		end
		test.eq(z:complete(), true)
		return table.concat(pieces)
	end
	local _, head, text = ask("GET", "/files/long.txt", "Accept-Encoding: br;q=1.0, gzip;q=0.8\r\n")
	test.match(head, "content%-encoding: gzip\r\n")
	test.match(head, "vary: accept%-encoding\r\n")
	test.match(head, "transfer%-encoding: chunked\r\n")
	test.match(head, 'etag: W/"')
	-- The chunks joined.
	local chunks, at = {}, 1
	repeat
		local size, from = text:match("^(%x+)\r\n()", at)
		size = tonumber(size, 16)
		chunks[#chunks + 1] = text:sub(from, from + size - 1)
		at = from + size + 2
	until size == 0
	test.eq(unpacked(table.concat(chunks)), long)
	for _, accept in ipairs { "", "gzip;q=0", "identity", "br" } do
		head = select(2, ask("GET", "/files/long.txt", "Accept-Encoding: " .. accept .. "\r\n"))
		assert(not head:find "content%-encoding", accept)
		test.match(head, "vary: accept%-encoding\r\n")
	end
	_, head = ask("GET", "/files/ten.bin", "Accept-Encoding: gzip\r\n")
	assert(not head:find "gzip")
	_, head = ask("GET", "/files/long.txt", "Accept-Encoding: gzip\r\nRange: bytes=0-2000\r\n")
	assert(not head:find "gzip")
	app:get("/long", function(_, res) res:send(200, long, { ["content-type"] = "application/json" }) end)
	_, head, text = ask("GET", "/long", "Accept-Encoding: gzip\r\n")
	test.match(head, "content%-encoding: gzip\r\n")
	test.eq(unpacked(text), long)
end)

test.case("the gzip coding refuses what is malformed", function()
	local z = gzip.inflater()
	z:push "no gzip"
	test.match(select(2, pcall(z.pull, z)), "malformed gzip data")
	z = gzip.inflater()
	local d = gzip.deflater(9)
	local packed = d:write("ab") .. d:write("cd", true)
	z:push(packed:sub(1, -2))
	test.eq(z:pull(), "abcd")
	test.eq(z:pull(), nil)
	test.eq(z:complete(), false)
	z:push(packed:sub(-1) .. packed)
	test.eq(z:pull(), "abcd")
	test.eq(z:pull(), nil)
	test.eq(z:complete(), true)
	test.match(select(2, pcall(d.write, d, "x")), "has ended")
end)

test.case("dates", function()
	test.eq(codec.date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT")
	test.eq(file.parse_date "Sun, 06 Nov 1994 08:49:37 GMT", 784111777)
	test.eq(file.parse_date "Sunday, 06-Nov-94 08:49:37 GMT", nil)
	test.eq(file.parse_date "Sun, 06 Xxx 1994 08:49:37 GMT", nil)
	test.eq(file.parse_date(nil), nil)
end)

test.case("end", function()
	os.execute("rm -r " .. root)
	server:close()
	test.wait_for(function() return server.count == 0 end)
end)

test.run()
