-- skynet.kcp.packet: the datagrams around KCP with which a conversation begins and
-- ends. They carry conversation 0, which KCP's own never do here.
--
--     client                                  server
--     HELLO  nonce, filled up         ->
--                                     <-      COOKIE  nonce, cookie
--     OPEN   nonce, cookie, mode      ->
--                                     <-      OPENED  nonce, conversation
--                                             or REFUSED  nonce, reason
--     ... segments of KCP both ways ...
--     CLOSE  conversation, cookie     <->     the same
--
-- The cookie proves that the client receives at the address it writes from, so the
-- server remembers nothing before OPEN (as the cookies of DTLS, RFC 9147 5.1); it is a
-- code over address, nonce and time with a secret of the process. An answer is never
-- longer than its question, so nobody can be flooded through the server. Only who has
-- seen the cookie can close.
--
-- Pure: builds and cuts strings, owns nothing.

local packet = {}

packet.HELLO = 1
packet.COOKIE = 2
packet.OPEN = 3
packet.OPENED = 4
packet.REFUSED = 5
packet.CLOSE = 6

packet.NONCE_SIZE = 16
packet.COOKIE_SIZE = 16

local VERSION = 1
-- All begin with: conversation 0, kind, version, mode, reserved.
local HEAD = "<I4BBBB"
local HEAD_SIZE = 8
-- Sizes behind the head.
local BODY = {
	[packet.HELLO] = 48, -- the longest answer's; what the nonce leaves is zero
	[packet.COOKIE] = 32,
	[packet.OPEN] = 32,
	[packet.OPENED] = 20,
	[packet.REFUSED] = 17,
	[packet.CLOSE] = 20,
}

-- Reasons of REFUSED.
packet.FULL = 1
packet.MODE = 2
packet.REASON = {
	[packet.FULL] = "the server takes no more connections",
	[packet.MODE] = "one side wants a stream, the other messages",
}

-- How an IPv4 address begins that is written as one of IPv6 (RFC 4291, 2.5.5.2).
local MAPPED = ("\0"):rep(10) .. "\xff\xff"

---Who is behind the address of a datagram (see socket.udp_address): the IPv4 address, or the
---/64 network of an IPv6 one, of which one host has as many addresses as it likes.
---@param from string
---@return string
function packet.peer_of(from)
	local ip = from:sub(4)
	if #ip == 4 or ip:sub(1, #MAPPED) == MAPPED then
		return ip:sub(-4)
	end
	return ip:sub(1, 8)
end

---@param kind integer
---@param body string
---@param stream boolean?
---@return string
function packet.pack(kind, body, stream)
	local fill = BODY[kind] - #body
	assert(fill >= 0, "body too long")
	return string.pack(HEAD, 0, kind, VERSION, stream and 1 or 0, 0) .. body .. ("\0"):rep(fill)
end

---@param datagram string
---@return integer? kind nil: none of these
---@return string body
---@return boolean stream
function packet.unpack(datagram)
	if #datagram <= HEAD_SIZE then
		return nil, "", false
	end
	local conv, kind, version, mode = string.unpack(HEAD, datagram)
	if conv ~= 0 or version ~= VERSION or BODY[kind] ~= #datagram - HEAD_SIZE then
		return nil, "", false
	end
	return kind, datagram:sub(HEAD_SIZE + 1), mode == 1
end

return packet
