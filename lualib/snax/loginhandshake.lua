-- snax.loginhandshake: what client and login server say to each other, server side.
--
-- Owns no connection and no state: `run` is given functions that read and write lines.
-- Two suites share the shape of the lines, and the size of the client's key tells them
-- apart: 8 bytes are the classic one (64-bit Diffie-Hellman, DES; for compatibility, it
-- stops nobody who listens), 32 bytes the modern one (X25519, ChaCha20-Poly1305,
-- HKDF-SHA-256; RFC 7748, 8439, 5869). doc/reference/login.md has both as a table.

local crypt = require "skynet.crypt"

local handshake = {}

local CLASSIC_KEY, MODERN_KEY = 8, 32
-- What modern keys and signatures are derived for.
local LABEL = "skynet login 1"
-- Each key seals one text only, so the nonce need not change.
local NONCE = ("\0"):rep(12)

---@class snax.loginhandshake.conf
---@field suite "classic"|"modern"|"both"
---@field identity string? Ed25519 secret that signs the modern key exchange

---@class snax.loginhandshake.result
---@field token string
---@field secret string 8 bytes, modern: 32
---@field seal fun(text: string): string how a text for the client is sent

local function classic(io, challenge, client_key)
	if not crypt.dhcheck(client_key) then
		error("Invalid client key", 0)
	end
	local key = crypt.randomkey()
	io.write(crypt.base64encode(crypt.dhexchange(key)))
	local secret = crypt.dhsecret(client_key, key)
	local proof = crypt.base64decode(io.read())
	if not crypt.equal(proof, crypt.hmac64(challenge, secret)) then
		error("challenge failed", 0)
	end
	return {
		token = crypt.desdecode(secret, crypt.base64decode(io.read())),
		secret = secret,
		seal = function(text) return text end,
	}
end

local function modern(io, challenge, client_key, identity)
	local public, key = crypt.x25519_keypair()
	local said = LABEL .. challenge .. client_key .. public
	local signature = identity and crypt.ed25519_sign(identity, said) or ""
	io.write(crypt.base64encode(public .. signature))
	local keys = crypt.hkdf(crypt.x25519(key, client_key), 96, challenge, said)
	local to_server, to_client, secret = keys:sub(1, 32), keys:sub(33, 64), keys:sub(65)
	local sealed = crypt.base64decode(io.read())
	if #sealed < 16 then
		error("challenge failed", 0)
	end
	local token = crypt.chacha20_poly1305_decrypt(to_server, NONCE, sealed)
	return {
		token = token or error("challenge failed", 0),
		secret = secret,
		seal = function(text)
			return crypt.chacha20_poly1305_encrypt(to_client, NONCE, text)
		end,
	}
end

---Exchange keys and receive the token. Raises what is wrong with the client, and
---whatever io raises. Yields as io does.
---@param io {read: (fun(): string), write: fun(line: string)} one line each, without its end
---@param conf snax.loginhandshake.conf
---@return snax.loginhandshake.result
function handshake.run(io, conf)
	local challenge = crypt.randomkey()
	io.write(crypt.base64encode(challenge))
	local client_key = crypt.base64decode(io.read())
	if #client_key == CLASSIC_KEY and conf.suite ~= "modern" then
		return classic(io, challenge, client_key)
	elseif #client_key == MODERN_KEY and conf.suite ~= "classic" then
		return modern(io, challenge, client_key, conf.identity)
	end
	error("Invalid client key", 0)
end

return handshake
