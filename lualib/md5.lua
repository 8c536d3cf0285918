-- md5: MD5 digests as bytes and as text, HMAC-MD5, a stream cipher. This file
-- completes the table of the C module md5.core: both names give the same one.
-- MD5 protects nothing any more: see skynet.crypt for new things.

---@class md5
---@field sum fun(s: string): string           16 bytes
---@field exor fun(a: string, b: string): string  lengths must be equal
---@field crypt fun(text: string, key: string, seed?: string): string
---@field decrypt fun(cipher: string, key: string): string
local md5 = require "md5.core"

md5._COPYRIGHT = "Copyright (C) the skynet authors"
md5._DESCRIPTION = "MD5 digests and a cipher made of them"
md5._VERSION = "MD5 1.2"

local BLOCK = 64

local function to_hex(s)
	return (s:gsub(".", function(c) return string.format("%02x", c:byte()) end))
end

---Digest as text.
---@param s string
---@return string hex 32 lower-case digits
function md5.sumhexa(s)
	if type(s) ~= "string" and type(s) ~= "number" then
		require "skynet.misuse"("md5.sumhexa", 1, "string", s)
	end
	return to_hex(md5.sum(s))
end

---HMAC-MD5 as text; mind the order of the arguments.
---@param data string
---@param key string
---@return string hex 32 lower-case digits
function md5.hmacmd5(data, key)
	if type(data) ~= "string" and type(data) ~= "number" then
		require "skynet.misuse"("md5.hmacmd5", 1, "string", data)
	end
	if type(key) ~= "string" then
		require "skynet.misuse"("md5.hmacmd5", 2, "string", key)
	end
	if #key > BLOCK then
		key = md5.sum(key)
	end
	key = key .. ("\0"):rep(BLOCK - #key)
	local inner = md5.exor(key, ("\x36"):rep(BLOCK))
	local outer = md5.exor(key, ("\x5c"):rep(BLOCK))
	return to_hex(md5.sum(outer .. md5.sum(inner .. data)))
end

return md5
