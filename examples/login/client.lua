-- client: logs in, plays, loses its connection and comes back; with a plain Lua
-- interpreter:
--   3rd/lua/lua examples/login/client.lua [modern]
-- `modern` uses X25519 and ChaCha20-Poly1305 and needs login_suite = "both" or "modern"
-- in the server's configuration. LOGIN_PORT and GATE_PORT name other ports.

package.cpath = "luaclib/?.so;" .. package.cpath

if _VERSION ~= "Lua 5.5" and _VERSION ~= "Lua 5.4" then
	error "Use lua 5.5, for instance 3rd/lua/lua"
end

local socket = require "client.socket"
local crypt = require "client.crypt"

local HOST = "127.0.0.1"
local LOGIN_PORT = tonumber(os.getenv "LOGIN_PORT") or 8001
local GATE_PORT = tonumber(os.getenv "GATE_PORT") or 8888
-- Pause between two looks at an idle connection, microseconds.
local IDLE = 100

local is_modern = arg and arg[1] == "modern"
local b64encode, b64decode = crypt.base64encode, crypt.base64decode

io.stdout:setvbuf "line"

-------------------------------------------------------------- reading

-- A connection and what it received; `cut` takes a unit off the front of a text.
local function open(port, cut)
	local fd = assert(socket.connect(HOST, port))
	local received = ""
	local self = { fd = fd }
	function self.read()
		while true do
			local unit, rest = cut(received)
			if unit then
				received = rest
				return unit
			end
			local data = socket.recv(fd)
			if data == "" then
				error "Server closed"
			elseif data then
				received = received .. data
			else
				socket.usleep(IDLE)
			end
		end
	end
	return self
end

local function cut_line(text)
	return text:match "^([^\n]*)\n(.*)$"
end

local function cut_package(text)
	if #text >= 2 then
		local size = string.unpack(">I2", text)
		if #text >= 2 + size then
			return text:sub(3, 2 + size), text:sub(3 + size)
		end
	end
end

--------------------------------------------------------------- logging in

local login = open(LOGIN_PORT, cut_line)

local function write_line(text)
	socket.send(login.fd, text .. "\n")
end

local player = { server = "sample", user = "hello", pass = "password" }
local token = string.format("%s@%s:%s", b64encode(player.user), b64encode(player.server),
	b64encode(player.pass))

-- Both return the secret and how the answer is opened.

local function login_classic(challenge)
	local key = crypt.randomkey()
	write_line(b64encode(crypt.dhexchange(key)))
	local secret = crypt.dhsecret(b64decode(login.read()), key)
	write_line(b64encode(crypt.hmac64(challenge, secret)))
	write_line(b64encode(crypt.desencode(secret, token)))
	return secret, function(text) return text end
end

local function login_modern(challenge)
	local nonce = ("\0"):rep(12)
	local public, key = crypt.x25519_keypair()
	write_line(b64encode(public))
	-- The rest would be the server's signature, if we knew its Ed25519 key.
	local server_public = b64decode(login.read()):sub(1, 32)
	local said = "skynet login 1" .. challenge .. public .. server_public
	local keys = crypt.hkdf(crypt.x25519(key, server_public), 96, challenge, said)
	write_line(b64encode(crypt.chacha20_poly1305_encrypt(keys:sub(1, 32), nonce, token)))
	return keys:sub(65), function(text)
		return assert(crypt.chacha20_poly1305_decrypt(keys:sub(33, 64), nonce, text))
	end
end

local challenge = b64decode(login.read())
local secret, unseal = (is_modern and login_modern or login_classic)(challenge)
print("sceret is", crypt.hexencode(secret))

local result = login.read()
print(result)
assert(result:sub(1, 3) == "200", result)
socket.close(login.fd)
local subid = unseal(b64decode(result:sub(5)))
print("login ok, subid=", subid)

------------------------------------------------------------------ playing

local game

local function send_request(text, session)
	socket.send(game.fd, string.pack(">s2", text .. string.pack(">I4", session)))
	print("===>", text, session)
end

local function print_answer()
	local package = game.read()
	local ok, session = string.unpack(">I1I4", package, #package - 4)
	print("<===", ok == 1, package:sub(1, -6), session)
end

-- The index counts the connections of this login.
local function handshake(index)
	local name = string.format("%s@%s#%s:%d", b64encode(player.user), b64encode(player.server),
		b64encode(subid), index)
	local proof = is_modern and crypt.hmac_sha256(secret, name) or crypt.hmac_hash(secret, name)
	socket.send(game.fd, string.pack(">s2", name .. ":" .. b64encode(proof)))
	local status = game.read()
	print(status)
	assert(status == "200 OK", status)
end

print "connect"
game = open(GATE_PORT, cut_package)
handshake(1)
send_request("echo", 0)
-- The answer gets lost.
print "disconnect"
socket.close(game.fd)

print "connect again"
game = open(GATE_PORT, cut_package)
handshake(2)
-- Session 0 is the request that was sent before, whatever it says now.
send_request("fake", 0)
send_request("again", 1)
print_answer()
print_answer()
print "disconnect"
socket.close(game.fd)
