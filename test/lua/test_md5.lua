-- md5: the vectors, lengths around a block, the cipher both ways.

local md5 = require "md5"
local crypt = require "skynet.crypt"
local test = require "testlib"
local vectors = require "vectors"

test.case("every vector passes", function()
	local list = vectors.load("md5").vectors
	test.eq(#list, 28)
	for i, v in ipairs(list) do
		local args = vectors.eval(table.concat(v.args, ","), { require = require })
		local function call() return md5[v.op](table.unpack(args, 1, args.n)) end
		if v.error then
			test.err(call, v.error:match "%((.*)%)" or v.error)
		elseif v.text then
			test.eq(call(), v.text, i)
		else
			test.eq(vectors.hex(call()), v.hex, i)
		end
	end
end)

test.case("both names give one table", function()
	test.ok(rawequal(require "md5.core", md5))
	test.eq(md5._VERSION, "MD5 1.2")
	test.eq(type(md5._COPYRIGHT), "string")
	test.eq(type(md5._DESCRIPTION), "string")
end)

test.case("digests at the edges of a block", function()
	local want = {
		[55] = "ef1772b6dff9a122358552954ad0df65",
		[56] = "3b0c8ac703f828b04c6c197006d17218",
		[57] = "652b906d60af96844ebd21b674f35e93",
		[63] = "b06521f39153d618550606be297466d5",
		[64] = "014842d480b571495a4a0363793f7367",
		[65] = "c743a45e0d2e6a95cb859adae0248435",
	}
	for n, digest in pairs(want) do
		test.eq(md5.sumhexa(("a"):rep(n)), digest)
	end
	test.eq(md5.sumhexa(("a"):rep(1000000)), "7707d6ae4e027c70eea2a935c2296f21")
end)

test.case("hmac (RFC 2202, cases 1, 2 and 6)", function()
	test.eq(md5.hmacmd5("Hi There", ("\x0b"):rep(16)), "9294727a3638bb1c13f48ef8158bfc9d")
	test.eq(md5.hmacmd5("what do ya want for nothing?", "Jefe"), "750c783e6ab0b503eaa86e310a5db738")
	test.eq(md5.hmacmd5("Test Using Larger Than Block-Size Key - Hash Key First", ("\xaa"):rep(80)),
		"6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd")
end)

test.case("decrypt undoes crypt", function()
	for n = 0, 80 do
		local text, key = crypt.random(n), crypt.random(n * 3)
		test.eq(md5.decrypt(md5.crypt(text, key), key), text)
		local seed = crypt.random(n % 17)
		local sealed = md5.crypt(text, key, seed)
		test.eq(#sealed, 1 + #seed + n)
		test.eq(md5.decrypt(sealed, key), text)
	end
end)

test.case("the limits of the cipher", function()
	test.eq(md5.decrypt(md5.crypt("m", ("k"):rep(256)), ("k"):rep(256)), "m")
	test.err(function() md5.crypt("m", ("k"):rep(257)) end, "key too long (> 256)")
	test.err(function() md5.decrypt("\0m", ("k"):rep(257)) end, "key too long (> 256)")
	for _, bad in ipairs { "", "\1", "\16" .. ("x"):rep(15), "\17" .. ("x"):rep(40), "\255" } do
		test.err(function() md5.decrypt(bad, "k") end, "invalid cyphered string")
	end
	test.err(function() md5.sum {} end, "bad argument #1")
	test.err(function() md5.exor("a", "") end, "lengths must be equal")
end)

test.run()
