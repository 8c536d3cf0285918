-- Allocations that fail in the C modules that read and write formats: http, TLS, crypt, sproto,
-- bson, protobuf, cjson, DNS and the rest. None of them holds anything afterwards.
local skynet = require "skynet"
local certs = require "certs"
local allocfail = require "allocfail"
local test = require "testlib"

local native = allocfail.native
local LONG = ("x"):rep(100)
local HUGE = ("0123456789abcdef"):rep(4096)

-- Cases of functions that only give values: name -> { function, arguments... }.
local function pure_cases(module, list)
	for name, item in pairs(list) do
		local f, args = item[1], table.pack(table.unpack(item, 2))
		local want
		allocfail.case(module .. "." .. name, {
			make = function()
				if want == nil then
					want = table.pack(f(table.unpack(args, 1, args.n)))
				end
			end,
			run = function() return f(table.unpack(args, 1, args.n)) end,
			check = function(...)
				if not item.varies then
					test.eq(table.pack(...), want)
				end
			end,
		})
	end
end

-------------------------------------------------------------------- crypt, md5

local crypt = require "skynet.crypt"
local KEY8, KEY32, NONCE = "12345678", ("k"):rep(32), ("n"):rep(12)
local LOW = { ln = 2, r = 1, p = 1 }
local aes = crypt.aes_gcm_encrypt(KEY32, NONCE, LONG)
local chacha = crypt.chacha20_poly1305_encrypt(KEY32, NONCE, LONG)
local ed_public = crypt.ed25519_public(KEY32)
local x_public = crypt.x25519_public(KEY32)

pure_cases("crypt", {
	randomkey = { crypt.randomkey, varies = true },
	random = { crypt.random, 5000, varies = true },
	uuid_v4 = { crypt.uuid_v4, varies = true },
	uuid_v7 = { crypt.uuid_v7, varies = true },
	equal = { crypt.equal, LONG, LONG },
	xor_str = { crypt.xor_str, HUGE, "key" },
	base64encode = { crypt.base64encode, HUGE },
	base64decode = { crypt.base64decode, crypt.base64encode(HUGE) },
	hexencode = { crypt.hexencode, HUGE },
	hexdecode = { crypt.hexdecode, crypt.hexencode(HUGE) },
	desencode = { crypt.desencode, KEY8, HUGE },
	desdecode = { crypt.desdecode, KEY8, crypt.desencode(KEY8, HUGE) },
	hashkey = { crypt.hashkey, LONG },
	hmac64 = { crypt.hmac64, KEY8, "87654321" },
	hmac64_md5 = { crypt.hmac64_md5, KEY8, "87654321" },
	hmac_hash = { crypt.hmac_hash, KEY8, LONG },
	dhexchange = { crypt.dhexchange, KEY8 },
	dhsecret = { crypt.dhsecret, KEY8, "87654321" },
	dhcheck = { crypt.dhcheck, KEY8 },
	sha1 = { crypt.sha1, LONG }, sha224 = { crypt.sha224, LONG }, sha256 = { crypt.sha256, LONG },
	sha384 = { crypt.sha384, LONG }, sha512 = { crypt.sha512, LONG },
	hmac_sha1 = { crypt.hmac_sha1, LONG, LONG }, hmac_sha224 = { crypt.hmac_sha224, LONG, LONG },
	hmac_sha256 = { crypt.hmac_sha256, LONG, LONG }, hmac_sha384 = { crypt.hmac_sha384, LONG, LONG },
	hmac_sha512 = { crypt.hmac_sha512, LONG, LONG },
	hkdf = { crypt.hkdf, LONG, 5000, "salt", "info" },
	aes_gcm_encrypt = { crypt.aes_gcm_encrypt, KEY32, NONCE, HUGE },
	aes_gcm_decrypt = { crypt.aes_gcm_decrypt, KEY32, NONCE, aes },
	aes_gcm_decrypt_bad = { crypt.aes_gcm_decrypt, KEY32, NONCE, LONG },
	chacha20_poly1305_encrypt = { crypt.chacha20_poly1305_encrypt, KEY32, NONCE, HUGE },
	chacha20_poly1305_decrypt = { crypt.chacha20_poly1305_decrypt, KEY32, NONCE, chacha },
	x25519_keypair = { crypt.x25519_keypair, varies = true },
	x25519_public = { crypt.x25519_public, KEY32 },
	x25519 = { crypt.x25519, KEY32, x_public },
	ed25519_keypair = { crypt.ed25519_keypair, varies = true },
	ed25519_public = { crypt.ed25519_public, KEY32 },
	ed25519_sign = { crypt.ed25519_sign, KEY32, LONG },
	ed25519_verify = { crypt.ed25519_verify, ed_public, LONG, crypt.ed25519_sign(KEY32, LONG) },
	scrypt = { crypt.scrypt, "password", "salt", 5000, LOW },
	password_hash = { crypt.password_hash, "password", LOW, varies = true },
	password_verify = { crypt.password_verify, "password", crypt.password_hash("password", LOW) },
})

local md5 = require "md5.core"
local md5_cases = { sum = { md5.sum, HUGE } }
for name, f in pairs(md5) do
	if name ~= "sum" and type(f) == "function" then
		md5_cases[name] = name == "crypt" and { f, LONG, "key", "seed" }
			or name == "decrypt" and { f, md5.crypt(LONG, "key", "seed"), "key" }
			or { f, LONG, LONG }
	end
end
pure_cases("md5", md5_cases)

------------------------------------------------------------------- cjson, lpeg

local cjson = require "cjson"
local VALUE = { a = { 1, 2.5, "three", LONG, { b = true } }, c = cjson.null, [LONG] = LONG }
local JSON = cjson.encode(VALUE)

allocfail.case("cjson.decode", {
	run = function() return cjson.decode(JSON) end,
	check = function(v) test.eq(v, VALUE) end,
})
allocfail.case("cjson.encode", {
	run = function() return cjson.encode(VALUE) end,
	check = function(text) test.eq(cjson.decode(text), VALUE) end,
})
allocfail.case("cjson.encode of something long", {
	run = function() return cjson.encode { HUGE, HUGE } end,
	check = function(text) test.ok(#text > 2 * #HUGE) end,
})
allocfail.case("cjson.new and its settings", {
	run = function()
		local j = cjson.new()
		j.encode_keep_buffer(false)
		j.encode_sparse_array(true)
		return j.encode { [1] = LONG, [5] = 2 }, j.decode(JSON)
	end,
	check = function(_, v) test.eq(v.a[3], "three") end,
})

local safe = require "cjson.safe"
allocfail.case("cjson.safe", {
	run = function() return safe.decode(safe.encode(VALUE)) end,
	raises = "Memory allocation error",
})

local lpeg = require "lpeg"
allocfail.case("lpeg", {
	run = function()
		local word = lpeg.C(lpeg.R("az", "AZ") ^ 1)
		local p = lpeg.Ct((word * lpeg.S " ," ^ 0 + 1) ^ 0) * lpeg.Cc(LONG)
		return p:match("one two, three 4 " .. LONG)
	end,
	check = function(t) test.eq(t, { "one", "two", "three", LONG }) end,
})

-------------------------------------------------------------------------- bson

local bson = require "bson"
local DOCUMENT = {
	a = { 1, 2.5, "three", LONG }, b = true, c = { d = { e = LONG } }, n = bson.null,
	i = bson.int64 and bson.int64(5) or 5,
}
local blob = tostring(bson.encode(DOCUMENT))

allocfail.case("bson.encode", {
	run = function() return bson.encode(DOCUMENT) end,
	check = function(doc) test.eq(#tostring(doc), #blob) end,
})
allocfail.case("bson.encode of something long", {
	run = function() return bson.encode { a = HUGE, b = { HUGE, HUGE } } end,
	check = function(doc) test.eq(doc:decode().b[2] == HUGE, true) end,
})
allocfail.case("bson.encode_order", {
	run = function() return bson.encode_order("a", 1, "b", LONG, "c", { 1, 2 }) end,
	check = function(doc) test.eq(doc:decode(), { a = 1, b = LONG, c = { 1, 2 } }) end,
})
allocfail.case("bson.decode", {
	run = function() return bson.decode(blob) end,
	check = function(v) test.eq(v.c, { d = { e = LONG } }) end,
})
allocfail.case("bson documents", {
	make = function() return bson.encode { x = 1, y = LONG } end,
	run = function(doc)
		doc:makeindex()
		doc.x = 2
		return doc:decode(), #doc, tostring(doc), bson.to_lightuserdata(doc)
	end,
	check = function(_, v) test.eq(v, { x = 2, y = LONG }) end,
})
pure_cases("bson", {
	date = { bson.date, 1000 }, date_ms = { bson.date_ms, 1000 },
	objectid = { bson.objectid, varies = true }, objectid_hex = { bson.objectid, ("a1"):rep(12) },
	binary = { bson.binary, LONG }, text = bson.text and { bson.text, LONG } or nil,
	timestamp = { bson.timestamp, 1, 2 }, regex = { bson.regex, LONG, "i" }, int64 = { bson.int64, 5 },
	type = { bson.type, bson.date(1000) },
})

------------------------------------------------------------------------ sproto

local sproto = require "sproto"
local score = require "sproto.core"
local parser = require "sprotoparser"
local BUNDLE = parser.parse [[
.Point { x 0 : integer y 1 : double names 2 : *string next 3 : Point map 4 : *Point(x) b 5 : binary }
ask 1 { request { p 0 : Point } response { ok 0 : boolean } }
]]
local POINT = {
	x = 1 << 40, y = 2.5, names = { "a", LONG }, next = { x = 1, names = {} },
	map = { [7] = { x = 7 } }, b = LONG,
}
local schema = score.newproto(BUNDLE)
local point = score.querytype(schema, "Point")
local encoded = score.encode(point, POINT)

allocfail.case("sproto.core.newproto", {
	run = function()
		local s = score.newproto(BUNDLE)
		local ok = pcall(score.querytype, s, "Point") and pcall(score.protocol, s, "ask")
			and pcall(score.protocol, s, 1)
		score.deleteproto(s)
		return ok
	end,
})
pure_cases("sproto.core", {
	decode = { score.decode, point, encoded },
	decodeat = { score.decodeat, point, "12345" .. encoded, 5 },
	pack = { score.pack, HUGE },
	pack_zeros = { score.pack, ("\0"):rep(10000) },
	unpack = { score.unpack, score.pack(HUGE) },
	default = { score.default, point },
	protocol = { score.protocol, schema, "ask" },
	protocol_tag = { score.protocol, schema, 1 },
	querytype = { score.querytype, schema, "Point" },
})
allocfail.case("sproto.core.encode", {
	run = function() return score.encode(point, POINT) end,
	check = function(b) test.eq((score.decode(point, b)), POINT) end,
})
allocfail.case("sproto.core.encode of something long", {
	run = function() return score.encode(point, { b = HUGE, names = { HUGE, HUGE } }) end,
	check = function(b) test.ok(#b > 3 * #HUGE) end,
})
allocfail.case("sproto.core.saveproto and loadproto", {
	run = function()
		score.saveproto(schema, 9)
		return score.deleteproto(score.loadproto(9))
	end,
})
allocfail.case("sproto.new and its objects", {
	run = function()
		local sp = sproto.new(BUNDLE)
		return sp:decode("Point", sp:encode("Point", POINT)), sp:pencode("Point", POINT)
	end,
	check = function(v) test.eq(v, POINT) end,
})

---------------------------------------------------------------------- protobuf

local protobuf = require "skynet.protobuf"
local SET

-- message M { int32 n = 1; repeated string s = 2; M m = 3; } enum E { ZERO = 0; }
local function descriptor_set()
	local function field(number, wire, text)
		return string.char(number << 3 | wire) .. (wire == 2 and string.char(#text) .. text or string.char(text))
	end
	local function member(name, number, label, type, type_name)
		return field(2, 2, field(1, 2, name) .. field(3, 0, number) .. field(4, 0, label) .. field(5, 0, type)
			.. (type_name and field(6, 2, type_name) or ""))
	end
	local message = field(1, 2, "M") .. member("n", 1, 1, 5) .. member("s", 2, 3, 9) .. member("m", 3, 1, 11, ".M")
	local enum = field(1, 2, "E") .. field(2, 2, field(1, 2, "ZERO") .. field(2, 0, 0))
	return field(1, 2, field(1, 2, "a.proto") .. field(4, 2, message) .. field(5, 2, enum) .. field(12, 2, "proto3"))
end

SET = descriptor_set()
local MESSAGE = { n = 5, s = { "a", LONG }, m = { n = 6 } }
local pb = protobuf.load(SET)
local pb_bytes = pb:encode("M", MESSAGE)

allocfail.case("protobuf.load", {
	run = function()
		local s = protobuf.load(SET)
		return s:decode("M", s:encode("M", MESSAGE))
	end,
	check = function(v) test.eq({ v.n, v.s, v.m.n }, { 5, { "a", LONG }, 6 }) end,
})
allocfail.case("protobuf, encode and decode", {
	run = function()
		return pb:encode("M", MESSAGE), pb:decode("M", pb_bytes, { defaults = true, unknown = true })
	end,
	check = function(b, v) test.eq({ b, v.s }, { pb_bytes, { "a", LONG } }) end,
})
allocfail.case("protobuf, encode of something long", {
	run = function() return pb:encode("M", { s = { HUGE, HUGE, HUGE } }) end,
	check = function(b) test.ok(#b > 3 * #HUGE) end,
})
allocfail.case("protobuf, share and the rest", {
	run = function()
		pb:share "allocfail"
		local s = protobuf.shared "allocfail"
		return s:default "M", s:enum("E", "ZERO"), s:enum("E", 0), s:messages()
	end,
	check = function(_, zero, name, messages) test.eq({ zero, name, messages }, { 0, "ZERO", { "M" } }) end,
})

------------------------------------------------------------- DNS, MongoDB, clocks

local dnscodec = require "skynet.dnscodec"
local mongo = require "skynet.mongo.driver"
local function name_of(text) return text:gsub("(%w+)%.?", function(l) return string.char(#l) .. l end) .. "\0" end
local QUESTION = "\0\1\129\128\0\1\0\1\0\0\0\0" .. name_of "www.example.com" .. "\0\1\0\1"
local ANSWER = QUESTION .. "\192\12\0\1\0\1\0\0\0\60\0\4\127\0\0\1"

allocfail.case("dnscodec", {
	run = function() return dnscodec.parse(ANSWER), dnscodec.version "/etc/hosts" end,
	check = function(v) test.ok(v) end,
})

allocfail.case("mongo driver", {
	make = function() return bson.encode { ping = 1 } end,
	run = function(doc)
		local message = mongo.op_msg(1, 0, bson.to_lightuserdata(doc))
		return mongo.length "\20\0\0\0", mongo.reply(message:sub(5))
	end,
	check = function(_, length) test.eq(length, 16) end,
})

local clock = require "skynet.wallclock"
for name, f in pairs(clock) do
	if type(f) == "function" then
		allocfail.case("wallclock." .. name, { run = function() return pcall(f, 1, 2, 3) end })
	end
end

-------------------------------------------------------------------------- http

local codec = require "http.codec"
local REQUEST = "POST /a?b=c HTTP/1.1\r\nHost: me\r\nX-Long: " .. LONG .. "\r\nX: 1\r\nX: 2\r\n"
	.. "Transfer-Encoding: chunked\r\n\r\n"
local BODY = "5\r\nhello\r\n0\r\nT: 1\r\n\r\n"

allocfail.case("http.reader", {
	run = function() return codec.reader() end,
	check = function(r) test.eq(r:size(), 0) end,
})
allocfail.case("http.request", {
	make = function() return codec.reader() end,
	run = function(r) return r:request(REQUEST .. BODY) end,
	check = function(r, method, target, head)
		test.eq({ method, target }, { "POST", "/a?b=c" })
		test.eq(codec.header(head).x, { "1", "2" })
		test.eq(r:chunk(), "hello")
	end,
	over = function(r) r:release() end,
})
allocfail.case("http.header", {
	run = function() return codec.header(REQUEST) end,
	check = function(h) test.eq(h["x-long"], LONG) end,
})
allocfail.case("http.response, from what was pushed", {
	make = function()
		local r = codec.reader()
		r:push("HTTP/1.1 200 Fine\r\nX: " .. LONG .. "\r\ncontent-length: 1\r\n\r\nA")
		return r
	end,
	run = function(r) return r:response() end,
	check = function(r, status, reason, header)
		test.eq({ status, reason, header.x, r:take() }, { 200, "Fine", LONG, "A" })
	end,
})
allocfail.case("http.push, size, release", {
	make = function() return codec.reader() end,
	run = function(r)
		r:push(LONG)
		r:push(HUGE)
		local size = r:size()
		r:release()
		return size
	end,
	check = function(_, size) test.eq(size, #LONG + #HUGE) end,
	over = function(r) r:release() end,
})
allocfail.case("http, the body", {
	make = function()
		local r = codec.reader()
		r:request(REQUEST .. BODY .. LONG)
		return r, { a = false, b = false, header = {} }
	end,
	run = function(r, got)
		got.a = got.a or r:chunk()
		got.b = got.b or r:chunk(got.header)
		return r:take()
	end,
	check = function(_, got, rest) test.eq({ got.a, got.b, rest }, { "hello", "", LONG }) end,
})
pure_cases("http.codec", {
	message = { codec.message, "HTTP/1.1 200 OK", { a = LONG, b = { 1, "two" } }, "", HUGE, #HUGE },
	chunk = { codec.chunk, HUGE },
	date = { codec.date, 0 },
	is_token = { codec.is_token, "token" },
	refused = { function() return codec.reader():request "\1\2\3" end },
})
allocfail.case("http.codec.block", {
	run = function() return codec.block("HTTP/1.1 200 OK", { a = LONG, b = 5 }, "", HUGE, #HUGE) end,
	check = function(msg, size)
		test.ok(size > #HUGE)
		skynet.trash(msg, size)
	end,
})

local gzip = require "http.gzip"
local function zipped(text)
	return gzip.deflater():write(text, true)
end

allocfail.case("gzip.deflater and inflater", {
	run = function() return gzip.deflater(9), gzip.inflater() end,
	check = function(d) test.ok(#d:write(LONG, true) > 10) end,
})
allocfail.case("gzip.deflater: a gap is noticed", {
	make = function() return gzip.deflater() end,
	run = function(d) return d:write(HUGE), d:write(HUGE, true) end,
	failed = function(d)
		-- Whole, or not at all.
		local ok, rest = pcall(d.write, d, HUGE, true)
		test.ok(ok or rest:find("lost", 1, true) or rest:find("ended", 1, true), rest)
	end,
	once = true,
})
local function filled_inflater()
	local i = gzip.inflater()
	i:push(zipped(HUGE))
	return i
end

allocfail.case("gzip.inflater: a gap is noticed", {
	make = filled_inflater,
	run = function(i)
		local all = ""
		for piece in i.pull, i do
			all = all .. piece
		end
		return all, i:complete()
	end,
	check = function(_, all, complete) test.ok(all == HUGE and complete) end,
	once = true,
})
allocfail.case("gzip.inflater: what could not be given is not passed over", {
	make = filled_inflater,
	run = function(i) return i:pull() end,
	failed = function(i)
		local ok, piece = pcall(i.pull, i)
		test.ok(ok and HUGE:sub(1, #piece) == piece or piece:find("lost", 1, true))
	end,
	once = true,
})

local file = require "http.file"
allocfail.case("http.file", {
	run = function()
		local root = file.root "lualib"
		local f = root:open "loader.lua"
		local size, time = f:stat()
		local text = f:read(0, 100000)
		f:close()
		return size == #text, time, root:open "no such file", root:open "skynet", file.root "no such folder",
			file.parse_date "Sun, 06 Nov 1994 08:49:37 GMT"
	end,
	check = function(same) test.eq(same, true) end,
})

--------------------------------------------------------------------------- TLS

local ltls
local contexts

local function make_contexts()
	if not contexts then
		certs.make()
		require "ltls.init.c".constructor()
		ltls = require "ltls.c"
		local server, client = ltls.newctx(), ltls.newctx()
		server:set_cert(certs.path "server.pem", certs.path "server.key")
		client:set_ca(certs.path "ca.pem")
		contexts = { server, client, certs.text "server.pem", certs.text "server.key", certs.text "ca.pem" }
	end
	return table.unpack(contexts)
end

local function sessions()
	local sctx, cctx = make_contexts()
	return ltls.newtls("server", sctx), ltls.newtls("client", cctx, "localhost")
end

local function shake(server, client)
	local out = client:handshake()
	for _ = 1, 10 do
		local back = not server:finished() and server:handshake(out) or nil
		if server:finished() and client:finished() then
			return back
		end
		out = back and not client:finished() and client:handshake(back) or nil
	end
end

local function connected()
	local server, client = sessions()
	local rest = shake(server, client)
	if rest then
		client:read(rest)
	end
	return server, client
end

allocfail.case("ltls contexts", {
	make = make_contexts,
	run = function(_, _, cert, key, ca)
		local a, b = ltls.newctx(), ltls.newctx()
		a:set_cert_pem(cert, key)
		a:set_cert(certs.path "server.pem", certs.path "server.key")
		a:set_alpn { "h2", "http/1.1" }
		a:set_ca_pem(ca)
		a:set_ca(certs.path "ca.pem")
		a:set_client_auth "optional"
		a:set_ciphers "ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256"
		a:set_versions "1.2"
		a:set_ticket_keys(("k"):rep(80))
		b:set_verify "none"
		b:add_host("other", a)
		return a, b
	end,
	check = function(_, _, _, _, _, a) test.eq(type(a), "userdata") end,
})
allocfail.case("ltls sessions", {
	make = make_contexts,
	run = function(sctx, cctx)
		local s, c = ltls.newtls("server", sctx), ltls.newtls("client", cctx, "localhost")
		c:set_ext_host_name "localhost"
		s:close()
		return c:finished(), c:alpn(), c:version(), c:cipher(), s
	end,
})
allocfail.case("ltls handshake: what could not be given is fetched", {
	make = sessions,
	run = function(_, client) return client:handshake() end,
	check = function(server, client, hello)
		local back = server:handshake(hello)
		client:handshake(back)
		test.eq(client:finished(), true)
	end,
})
allocfail.case("ltls read loses nothing", {
	make = function()
		local server, client = connected()
		local bytes = client:write(LONG)
		return server, client, bytes, {}
	end,
	run = function(server, _, bytes, once)
		local given = once.fed and "" or bytes
		once.fed = true
		return server:read(given)
	end,
	check = function(server, client, _, _, text)
		test.eq(text, LONG)
		test.eq((server:read(client:write "next")), "next")
	end,
})
allocfail.case("ltls pull loses nothing", {
	make = function()
		local server, client = connected()
		return server, client, client:write(HUGE), {}
	end,
	run = function(server, _, bytes, once)
		local given = once.fed and "" or bytes
		once.fed = true
		return server:pull(given)
	end,
	check = function(_, _, _, _, msg, size)
		test.ok(skynet.tostring(msg, size) == HUGE, "the text")
		skynet.trash(msg, size)
	end,
})
allocfail.case("ltls read, at an error behind good records", {
	make = function()
		local server, client = connected()
		return server, client:write(LONG) .. "\23\3\3\0\20" .. ("z"):rep(20), {}
	end,
	run = function(server, bytes, once)
		local given = once.fed and "" or bytes
		once.fed = true
		return server:read(given)
	end,
	check = function(_, _, _, text, _, _, failure)
		test.eq({ text, type(failure) }, { LONG, "string" })
	end,
})
allocfail.case("ltls write", {
	make = connected,
	run = function(_, client) return client:write(HUGE) end,
	check = function(server, _, bytes) test.ok(server:read(bytes):sub(1, #HUGE) == HUGE) end,
	failed = function() end,
	once = true,
})
allocfail.case("ltls facts", {
	make = connected,
	run = function(server, client)
		return client:peer_certificate(), client:version(), client:cipher(), client:alpn(), server:server_name(),
			client:session(), client:resumed(), client:shutdown()
	end,
	check = function(_, _, cert, version)
		test.eq({ type(cert.pem), version }, { "string", "TLSv1.3" })
	end,
})
allocfail.case("ltls session tickets", {
	make = function()
		local _, client = connected()
		local ticket = client:session()
		local server, again = sessions()
		return server, again, ticket
	end,
	run = function(_, again, ticket) return again:set_session(ticket) end,
	check = function(server, again, _, taken)
		test.eq(taken, true)
		shake(server, again)
		test.eq(again:resumed(), true)
	end,
})

------------------------------------------------------------------------- client

local clientsocket = require "client.socket"
local driver_socket = require "skynet.socket"
local listener, port, accepted

test.case("a listener for client.socket", function()
	listener, _, port = driver_socket.listen("127.0.0.1", 0)
	driver_socket.start(listener, function(id)
		driver_socket.start(id)
		accepted = id
	end)
end)

test.case("client.socket loses nothing and leaves nothing open", function()
	local fd = clientsocket.connect("127.0.0.1", port)
	test.wait_for(function() return accepted end)
	for n = 1, 20 do
		driver_socket.write(accepted, LONG)
		local got
		test.wait_for(function()
			local failed, ok, text = native.attempt(n, "once", clientsocket.recv, fd)
			if not ok then
				test.ok(failed)
				text = clientsocket.recv(fd)
			end
			got = text
			return text
		end)
		test.eq(got, LONG)
	end
	native.attempt(1, "always", clientsocket.send, fd, "x")
	clientsocket.shutdown(fd, "w")
	clientsocket.usleep(0)
	clientsocket.close(fd)
	driver_socket.close(listener)
	driver_socket.close(accepted)
end)

test.case("certificates are removed", function() certs.remove() end)

-- cjson and lpeg are other people's.
allocfail.covers({
	crypt = crypt, md5 = md5, bson = bson, sproto = score, protobuf = require "protobuf.core",
	dnscodec = dnscodec, mongo = mongo, wallclock = clock, codec = codec, gzip = gzip, file = file,
}, {
	["sproto.dumpproto"] = "prints, without memory of Lua",
})

test.run()
