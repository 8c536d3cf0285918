-- wsraw: the other side of a WebSocket as bytes, for tests: makes and reads frames of
-- any shape, right or wrong, over skynet.socket. Knows nothing of the code under test.

local socket = require "skynet.socket"

local wsraw = {}

wsraw.KEY = "dGhlIHNhbXBsZSBub25jZQ=="

local MASK = "\x37\xfa\x21\x3d"

local function flip(payload, key)
	local out = {}
	for i = 1, #payload do
		out[i] = string.char(payload:byte(i) ~ key:byte((i - 1) % 4 + 1))
	end
	return table.concat(out)
end

---@param op integer
---@param payload string?
---@param how {fin: boolean?, rsv: integer?, mask: boolean?, length: integer?, form: integer?}?
---  rsv: the three bits as 0 to 7; length: what the header claims; form: 7, 16 or 64
function wsraw.frame(op, payload, how)
	payload = payload or ""
	how = how or {}
	local n = how.length or #payload
	local first = (how.fin == false and 0 or 0x80) | (how.rsv or 0) << 4 | op
	local mask = how.mask ~= false and 0x80 or 0
	local form = how.form or (n < 126 and 7 or n < 65536 and 16 or 64)
	local head
	if form == 7 then
		head = string.pack("BB", first, mask | n)
	elseif form == 16 then
		head = string.pack(">BBI2", first, mask | 126, n)
	else
		head = string.pack(">BBI8", first, mask | 127, n)
	end
	if mask == 0 then
		return head .. payload
	end
	return head .. MASK .. (how.plain and payload or flip(payload, MASK))
end

---The request of an upgrade.
---@param header table<string, string|false>? changes; false leaves a line out
---@param first string? the request line
function wsraw.request(header, first)
	local all = {
		Host = "test",
		Upgrade = "websocket",
		Connection = "Upgrade",
		["Sec-WebSocket-Key"] = wsraw.KEY,
		["Sec-WebSocket-Version"] = "13",
	}
	for k, v in pairs(header or {}) do
		all[k] = v or nil
	end
	local lines = { first or "GET /chat?x=1 HTTP/1.1" }
	for k, v in pairs(all) do
		lines[#lines + 1] = k .. ": " .. v
	end
	return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

---Connect and upgrade; the id and the response's header.
function wsraw.connect(port, header)
	local id = assert(socket.open("127.0.0.1", port))
	socket.write(id, wsraw.request(header))
	return id, assert(socket.readline(id, "\r\n\r\n"))
end

---The next frame: { op, payload, fin, rsv, masked }; nil at the end.
function wsraw.read(id)
	local head = socket.read(id, 2)
	if not head then
		return nil
	end
	local b0, b1 = head:byte(1, 2)
	local n = b1 & 0x7f
	if n == 126 then
		n = string.unpack(">I2", socket.read(id, 2))
	elseif n == 127 then
		n = string.unpack(">I8", socket.read(id, 8))
	end
	local key = b1 >= 0x80 and socket.read(id, 4)
	local payload = n > 0 and socket.read(id, n) or ""
	if payload == false then
		return nil
	end
	return {
		op = b0 & 15,
		payload = key and flip(payload, key) or payload,
		fin = b0 >= 0x80,
		rsv = b0 >> 4 & 7,
		masked = key and true or false,
	}
end

---The next frame as text: "1:hello", close frames "8:1000:bye"; "end" at the end.
function wsraw.next(id)
	local f = wsraw.read(id)
	if not f then
		return "end"
	end
	if f.op == 8 and #f.payload >= 2 then
		return string.format("8:%d:%s", string.unpack(">I2", f.payload), f.payload:sub(3))
	end
	return f.op .. ":" .. f.payload
end

function wsraw.close_frame(code, reason)
	return wsraw.frame(8, code and string.pack(">I2", code) .. (reason or "") or "")
end

return wsraw
