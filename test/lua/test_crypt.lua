-- skynet.crypt: the vectors, published vectors of the modern functions, and
-- what hostile arguments get. client.crypt is in test/process/test_clientcrypt.py.

local skynet = require "skynet"
local crypt = require "skynet.crypt"
local test = require "testlib"
local vectors = require "vectors"

local hex, unhex = vectors.hex, vectors.unhex
local release = skynet.getenv "test_variant" == "release"

-- Where ours is better than what the vectors record: both cases of hex
-- digits, blanks anywhere in base64.
local better = {
	['hexdecode"AB"'] = "\xab",
	['base64decode"Zg==\\n"'] = "f",
}

local function random_bytes(n)
	return crypt.random(n)
end

test.case("every vector passes", function()
	local list = vectors.load("crypt").vectors
	test.eq(#list, 111)
	for i, v in ipairs(list) do
		local what = i .. ": " .. v.op .. table.concat(v.args, ",")
		local args = vectors.eval(table.concat(v.args, ","), { crypt = crypt })
		local want = better[v.op .. table.concat(v.args, ",")]
		local function call() return crypt[v.op](table.unpack(args, 1, args.n)) end
		if v.error and not want then
			test.err(call, v.error)
		else
			test.eq(hex(call()), want and hex(want) or v.hex, what)
		end
	end
end)

test.case("random keys differ and are never zero", function()
	local seen = {}
	for _ = 1, 1000 do
		local key = crypt.randomkey()
		test.eq(#key, 8)
		test.ok(not seen[key])
		seen[key] = true
		test.ne(key, ("\0"):rep(8))
	end
end)

test.case("random gives what is asked for", function()
	for _, n in ipairs { 0, 1, 255, 256, 257, 70000 } do
		test.eq(#crypt.random(n), n)
	end
	test.ne(crypt.random(32), crypt.random(32))
	test.err(function() crypt.random(-1) end, "size out of range")
	test.err(function() crypt.random(1 << 40) end, "size out of range")
end)

test.case("both sides of an exchange agree", function()
	for _ = 1, 50 do
		local a, b = crypt.randomkey(), crypt.randomkey()
		local pa, pb = crypt.dhexchange(a), crypt.dhexchange(b)
		test.eq(crypt.dhsecret(pb, a), crypt.dhsecret(pa, b))
		test.ok(crypt.dhcheck(pa))
	end
end)

test.case("public values that give the secret away are refused or told", function()
	local function u64(v) return string.pack("<I8", v) end
	local p = 0xffffffffffffffc5
	test.err(function() crypt.dhsecret(u64(p), u64(1)) end, "Can't be 0")
	for _, v in ipairs { 0, 1, p - 1, p, p + 1 } do
		test.eq(crypt.dhcheck(u64(v)), false)
	end
	test.eq(crypt.dhcheck(u64(2)), true)
	test.err(function() crypt.dhcheck "short" end, "Invalid dh uint64 key")
end)

test.case("des comes back, whatever the length and the padding", function()
	for _, padding in pairs(crypt.padding) do
		for n = 0, 64 do
			local key, text = crypt.randomkey(), random_bytes(n)
			local sealed = crypt.desencode(key, text, padding)
			test.eq(#sealed, n // 8 * 8 + 8)
			test.eq(crypt.desdecode(key, sealed, padding), text)
		end
	end
end)

test.case("des with pkcs7 gives the texts that other programs give", function()
	for text, want in pairs {
		[""] = "/rlZt9RkL8s=", ["1"] = "g6AtgJul6q0=", ["12345678"] = "ltACiHjVjIn+uVm31GQvyw==",
	} do
		local cipher = crypt.desencode("12345678", text, crypt.padding.pkcs7)
		test.eq(crypt.base64encode(cipher), want)
		test.eq(crypt.desdecode("12345678", cipher, crypt.padding.pkcs7), text)
	end
	test.eq(crypt.base64encode(crypt.desencode("12345678", "hello world")), "KNugLrX23UcGtcVlk9y+LA==")
end)

test.case("bad des padding is found without reading before the text", function()
	local key = "ABCDEFGH"
	-- Blocks whose padding claims 0, 9 and 255 bytes: a foreign block before
	-- its own padding is cut off by hand.
	for _, last in ipairs { 0, 9, 255 } do
		local sealed = crypt.desencode(key, ("\0"):rep(7) .. string.char(last)):sub(1, 8)
		test.err(function() crypt.desdecode(key, sealed, 1) end, "Invalid des crypt text")
	end
	test.err(function() crypt.desdecode(key, crypt.desencode(key, ("\0"):rep(8)):sub(1, 8)) end,
		"Invalid des crypt text")
end)

test.case("base64 and hex come back", function()
	for n = 0, 300, 7 do
		local s = random_bytes(n)
		test.eq(crypt.base64decode(crypt.base64encode(s)), s)
		test.eq(crypt.hexdecode(crypt.hexencode(s)), s)
		test.eq(crypt.hexdecode(crypt.hexencode(s):upper()), s)
	end
	local s = random_bytes(5000)
	test.eq(crypt.base64decode(crypt.base64encode(s)), s)
end)

test.case("base64 skips blanks anywhere, and strange bytes inside", function()
	test.eq(crypt.base64decode " Z\r\nm\t9 v\n\n", "foo")
	test.eq(crypt.base64decode "Zm9v\r\nZg==\r\n", "foof")
	test.eq(crypt.base64decode "Z-g=*=", "f")
	test.eq(crypt.base64decode " \n", "")
	test.err(function() crypt.base64decode "Zm9v*" end, "Invalid base64 text")
	test.err(function() crypt.base64decode "=" end, "Invalid base64 text")
	test.err(function() crypt.base64decode "Zm9vZ" end, "Invalid base64 text")
end)

test.case("hex takes no other letters", function()
	for _, bad in ipairs { "0g", "g0", "0G", "@0", "0`", " 0" } do
		test.err(function() crypt.hexdecode(bad) end, "Invalid hex text")
	end
end)

test.case("sha1 of a million bytes", function()
	test.eq(hex(crypt.sha1(("a"):rep(1000000))), "34aa973cd4c4daa4f61eeb2bdbad27316534016f")
end)

test.case("sha1 and hmac_sha1 at the edges of a block", function()
	local want = {
		[55] = "c1c8bbdc22796e28c0e15163d20899b65621d65a",
		[56] = "c2db330f6083854c99d4b5bfb6e8f29f201be699",
		[63] = "03f09f5b158a7a8cdad920bddc29b81c18a551f5",
		[64] = "0098ba824b5c16427bd7a1122a5a442a25ec644d",
		[65] = "11655326c708d70319be2610e8a57d9a5b959d3b",
		[119] = "ee971065aaa017e0632a8ca6c77bb3bf8b1dfc56",
		[128] = "ad5b3fdbcb526778c2839d2f151ea753995e26a0",
	}
	for n, digest in pairs(want) do
		test.eq(hex(crypt.sha1(("a"):rep(n))), digest, n)
	end
	-- RFC 2202, cases 1, 2 and 6.
	test.eq(hex(crypt.hmac_sha1(("\x0b"):rep(20), "Hi There")),
		"b617318655057264e28bc0b6fb378c8ef146be00")
	test.eq(hex(crypt.hmac_sha1("Jefe", "what do ya want for nothing?")),
		"effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
	test.eq(hex(crypt.hmac_sha1(("\xaa"):rep(80), "Test Using Larger Than Block-Size Key - Hash Key First")),
		"aa4ae5e15272d00e95705637ce8a3b55ed402112")
end)

test.case("the SHA-2 family of abc (FIPS 180)", function()
	test.eq(hex(crypt.sha224 "abc"), "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7")
	test.eq(hex(crypt.sha256 "abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
	test.eq(hex(crypt.sha384 "abc"), "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163"
		.. "1a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7")
	test.eq(hex(crypt.sha512 "abc"), "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
		.. "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f")
	test.eq(hex(crypt.sha256 ""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
end)

test.case("HMAC over SHA-2 (RFC 4231, case 2)", function()
	local key, text = "Jefe", "what do ya want for nothing?"
	test.eq(hex(crypt.hmac_sha224(key, text)), "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44")
	test.eq(hex(crypt.hmac_sha256(key, text)),
		"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
	test.eq(hex(crypt.hmac_sha384(key, text)), "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47"
		.. "e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649")
	test.eq(hex(crypt.hmac_sha512(key, text)),
		"164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
		.. "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737")
	-- Case 6: a key longer than the block.
	test.eq(hex(crypt.hmac_sha256(("\xaa"):rep(131), "Test Using Larger Than Block-Size Key - Hash Key First")),
		"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
	test.eq(#crypt.hmac_sha256("", ""), 32)
end)

test.case("hkdf (RFC 5869, cases 1 and 3)", function()
	local secret = ("\x0b"):rep(22)
	test.eq(hex(crypt.hkdf(secret, 42, unhex "000102030405060708090a0b0c", unhex "f0f1f2f3f4f5f6f7f8f9")),
		"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
	test.eq(hex(crypt.hkdf(secret, 42)),
		"8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")
	test.eq(hex(crypt.hkdf(("\x0b"):rep(11), 42, unhex "000102030405060708090a0b0c",
		unhex "f0f1f2f3f4f5f6f7f8f9", "sha1")),
		"085a01ea1b10f36933068b56efa5ad81a4f14b822f5b091568a9cdd4f155fda2c22e422478d305f3f896")
	test.eq(#crypt.hkdf("s", 255 * 32), 255 * 32)
	test.err(function() crypt.hkdf("s", 255 * 32 + 1) end, "length out of range")
	test.err(function() crypt.hkdf("s", 0) end, "length out of range")
	test.err(function() crypt.hkdf("", 32) end, "secret is empty")
	test.err(function() crypt.hkdf("s", 32, "", "", "md4") end, "no hash 'md4'")
end)

test.case("x25519 (RFC 7748)", function()
	test.eq(hex(crypt.x25519_public("\9" .. ("\0"):rep(31))),
		"422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
	test.eq(hex(crypt.x25519(
		unhex "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
		unhex "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493")),
		"95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957")
	test.eq(hex(crypt.x25519(
		unhex "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
		unhex "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")),
		"c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
	local pa, sa = crypt.x25519_keypair()
	local pb, sb = crypt.x25519_keypair()
	test.eq(crypt.x25519_public(sa), pa)
	test.eq(crypt.x25519(sa, pb), crypt.x25519(sb, pa))
	test.ne(sa, sb)
	test.err(function() crypt.x25519(sa, ("\0"):rep(32)) end, "x25519 failed")
	test.err(function() crypt.x25519(sa, "short") end, "public key of 32 bytes expected, got 5")
	test.err(function() crypt.x25519_public("short") end, "secret key of 32 bytes expected, got 5")
end)

test.case("ed25519 (RFC 8032, tests 1 and 2)", function()
	local cases = {
		{
			"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "",
			"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
			"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
			.. "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
		},
		{
			"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "\x72",
			"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
			.. "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
		},
	}
	for _, c in ipairs(cases) do
		local secret, text, public, signature = unhex(c[1]), c[2], unhex(c[3]), unhex(c[4])
		test.eq(crypt.ed25519_public(secret), public)
		test.eq(hex(crypt.ed25519_sign(secret, text)), hex(signature))
		test.eq(crypt.ed25519_verify(public, text, signature), true)
		test.eq(crypt.ed25519_verify(public, text .. "x", signature), false)
		test.eq(crypt.ed25519_verify(public, text, signature:sub(1, 63)), false)
		test.eq(crypt.ed25519_verify(public, text, ("\0"):rep(64)), false)
	end
	local public, secret = crypt.ed25519_keypair()
	test.eq(crypt.ed25519_verify(public, "text", crypt.ed25519_sign(secret, "text")), true)
	test.err(function() crypt.ed25519_sign("short", "") end, "secret key of 32 bytes expected, got 5")
	test.err(function() crypt.ed25519_verify("short", "", "") end, "public key of 32 bytes expected")
end)

test.case("chacha20-poly1305 (RFC 8439, 2.8.2)", function()
	local key = unhex "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
	local nonce, aad = unhex "070000004041424344454647", unhex "50515253c0c1c2c3c4c5c6c7"
	local text = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
		.. "sunscreen would be it."
	local sealed = crypt.chacha20_poly1305_encrypt(key, nonce, text, aad)
	test.eq(hex(sealed:sub(1, 16)), "d31a8d34648e60db7b86afbc53ef7ec2")
	test.eq(hex(sealed:sub(-16)), "1ae10b594f09e26a7e902ecbd0600691")
	test.eq(crypt.chacha20_poly1305_decrypt(key, nonce, sealed, aad), text)
	test.err(function() crypt.chacha20_poly1305_encrypt("k", nonce, text) end, "key of 32 bytes expected, got 1")
end)

test.case("aes-gcm (the test cases 2 and 16 of its authors)", function()
	test.eq(hex(crypt.aes_gcm_encrypt(("\0"):rep(16), ("\0"):rep(12), ("\0"):rep(16))),
		"0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf")
	local key = unhex "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
	local nonce = unhex "cafebabefacedbaddecaf888"
	local aad = unhex "feedfacedeadbeeffeedfacedeadbeefabaddad2"
	local text = unhex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		.. "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")
	local sealed = crypt.aes_gcm_encrypt(key, nonce, text, aad)
	test.eq(hex(sealed), "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		.. "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
		.. "76fc6ece0f4e1768cddf8853bb2d551b")
	test.eq(crypt.aes_gcm_decrypt(key, nonce, sealed, aad), text)
	test.eq(#crypt.aes_gcm_encrypt(("k"):rep(24), nonce, ""), 16)
	test.err(function() crypt.aes_gcm_encrypt("short", nonce, "") end, "key of 16, 24 or 32 bytes expected")
	test.err(function() crypt.aes_gcm_encrypt(key, "short", "") end, "nonce of 12 bytes expected, got 5")
end)

test.case("nothing that was changed opens", function()
	local key, nonce = crypt.random(32), crypt.random(12)
	for _, name in ipairs { "aes_gcm", "chacha20_poly1305" } do
		local open = crypt[name .. "_decrypt"]
		local sealed = crypt[name .. "_encrypt"](key, nonce, "text", "aad")
		local function refused(...)
			test.eq({ open(...) }, { nil, "authentication failed" })
		end
		test.eq(open(key, nonce, sealed, "aad"), "text")
		refused(key, nonce, sealed)
		refused(key, nonce, sealed, "aaD")
		refused(crypt.random(32), nonce, sealed, "aad")
		refused(key, crypt.random(12), sealed, "aad")
		for i = 1, #sealed do
			local bit = string.char(sealed:byte(i) ~ 1)
			refused(key, nonce, sealed:sub(1, i - 1) .. bit .. sealed:sub(i + 1), "aad")
		end
		for n = 0, #sealed - 1 do
			refused(key, nonce, sealed:sub(1, n), "aad")
		end
	end
end)

test.case("equal compares bytes", function()
	test.eq(crypt.equal("", ""), true)
	test.eq(crypt.equal("abc", "abc"), true)
	test.eq(crypt.equal("abc", "abd"), false)
	test.eq(crypt.equal("abc", "abcd"), false)
	test.err(function() crypt.equal("a", nil) end, "bad argument #2")
end)

test.case("scrypt (RFC 7914)", function()
	test.eq(hex(crypt.scrypt("", "", 64, { ln = 4, r = 1, p = 1 })),
		"77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
		.. "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906")
	if release then
		test.eq(hex(crypt.scrypt("password", "NaCl", 64, { ln = 10, r = 8, p = 16 })),
			"fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
			.. "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640")
	end
	test.err(function() crypt.scrypt("p", "s", 32, { ln = 24, r = 64 }) end, "cost out of range")
	test.err(function() crypt.scrypt("p", "s", 32, { ln = 0 }) end, "cost out of range")
	test.err(function() crypt.scrypt("p", "s", 32, { p = 1 << 40 }) end, "cost out of range")
	test.err(function() crypt.scrypt("p", "s", 32, { r = "x" }) end, "field 'r' is no integer")
	test.err(function() crypt.scrypt("p", "s", 0) end, "length out of range")
end)

test.case("a hashed password is verified", function()
	local cheap = { ln = 4, r = 1, p = 1 }
	local stored = crypt.password_hash("secret", cheap)
	test.match(stored, "^%$scrypt%$ln=4,r=1,p=1%$[%w+/]+%$[%w+/]+$")
	test.ne(stored, crypt.password_hash("secret", cheap))
	test.eq(crypt.password_verify("secret", stored), true)
	test.eq(crypt.password_verify("Secret", stored), false)
	test.eq(crypt.password_verify("", stored), false)
	if release then
		local normal = crypt.password_hash "secret"
		test.match(normal, "^%$scrypt%$ln=14,r=8,p=5%$")
		test.eq(crypt.password_verify("secret", normal), true)
	end
	local head = "$scrypt$ln=4,r=1,p=1$"
	for _, bad in ipairs {
		"", "$", "$scrypt$", head, head .. "$", "$scrypt$ln=4,r=1,p=1$c2FsdA", stored:sub(1, 40),
		stored:gsub("ln=4", "ln=04"), stored:gsub("ln=4", "ln= 4"), stored:gsub("ln=4", "ln=99"),
		stored:gsub("r=1", "r=-1"), stored .. "\0", head .. ("A"):rep(9999) .. "$" .. ("A"):rep(9999),
	} do
		test.err(function() crypt.password_verify("secret", bad) end, "not a hashed password")
	end
end)

test.case("uuids have their form and their order", function()
	local form = "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-(%d)%x%x%x%-([89ab])%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"
	test.eq(crypt.uuid_v4():match(form), "4")
	test.ne(crypt.uuid_v4(), crypt.uuid_v4())
	local begun = os.time()
	local last = crypt.uuid_v7()
	test.eq(last:match(form), "7")
	-- Clocks of the system may differ by a tick.
	local made = tonumber(last:sub(1, 8) .. last:sub(10, 13), 16) // 1000
	test.ok(made >= begun - 1 and made <= os.time() + 1, made)
	for _ = 1, 5000 do
		local id = crypt.uuid_v7()
		test.ok(id > last, "order")
		last = id
	end
end)

test.case("numbers are taken as text, other values are refused", function()
	test.eq(crypt.hexencode(12), "3132")
	test.err(function() crypt.sha256 {} end, "bad argument #1")
	test.err(function() crypt.hmac_sha256("key") end, "bad argument #2")
	test.err(function() crypt.hmac64("short", "ABCDEFGH") end, "Invalid uint64 x")
end)

test.run()
