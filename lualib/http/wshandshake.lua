-- http.wshandshake: the upgrade of an HTTP connection to a WebSocket (RFC 6455 section 4)
-- and the negotiation of permessage-deflate (RFC 7692 section 7.1), both sides, as
-- functions of texts and tables.
--
-- Owns nothing, reads and writes nothing, never yields. Header tables are those of
-- http.internal: lower-case names; a repeated name has an array of values.

local crypt = require "skynet.crypt"
local internal = require "http.internal"

---@class http.wshandshake
local handshake = {}

local GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
local KEY_BYTES = 16
-- zlib deflates with a window of 2^9 at least; the wire knows 2^8 to 2^15.
local LEAST_BITS, MOST_BITS = 9, 15
-- Windows of our own side: 4 KB instead of 32 KB a connection and direction.
local DEFAULT_BITS = 12

local REASON = {
	[400] = "Bad Request",
	[403] = "Forbidden",
	[404] = "Not Found",
	[408] = "Request Time-out",
	[413] = "Request Entity Too Large",
	[429] = "Too Many Requests",
	[503] = "Service Unavailable",
	[505] = "HTTP Version not supported",
}

---@class websocket.deflate
---@field level integer? 1 (fast) to 9; default 6
---@field mem_level integer? 1 to 9; default 5: 16 KB
---@field window_bits integer? 9 to 15; default 12: 16 KB to deflate, 4 KB to inflate
---@field threshold integer? shorter messages are sent as they are; default 128 bytes
---@field no_context_takeover boolean? each message is compressed alone; frees the memory between

---@class websocket.negotiated
---@field protocol string? the subprotocol
---@field inflate table? for wscodec.new
---@field deflate table? for wscodec.new

--------------------------------------------------------------------- header

-- The value of a header that may be a list, as one list.
local function joined(value)
	return type(value) == "table" and table.concat(value, ", ") or value
end

---The last of the values of a header: the one that the nearest proxy added.
---@param value string|string[]|nil
---@return string?
function handshake.last(value)
	return type(value) == "table" and value[#value] or value
end

local function tokens(value)
	local list = {}
	for piece in (joined(value) or ""):gmatch "[^,]+" do
		local token = piece:match "^%s*(.-)%s*$"
		if token ~= "" then
			list[#list + 1] = token
		end
	end
	return list
end

local function has_token(value, wanted)
	for _, token in ipairs(tokens(value)) do
		if token:lower() == wanted then
			return true
		end
	end
	return false
end

---The answer to a key (RFC 6455 4.2.2).
---@param key string
---@return string
function handshake.accept_key(key)
	return crypt.base64encode(crypt.sha1(key .. GUID))
end

-------------------------------------------------------------------- deflate

-- Names of settings.
local DEFLATE = { level = true, mem_level = true, window_bits = true, threshold = true, no_context_takeover = true }

-- Our settings with their defaults; nil if compression is off.
local function deflate_options(deflate)
	if not deflate then
		return nil
	elseif deflate ~= true and type(deflate) ~= "table" then
		error("websocket option deflate must be a boolean or a table, not " .. tostring(deflate), 0)
	end
	local options = {}
	if type(deflate) == "table" then
		for k, v in pairs(deflate) do
			if not DEFLATE[k] then
				error(string.format("unknown option '%s' of the websocket option deflate%s", tostring(k),
					require "skynet.options".hint(k, DEFLATE)), 0)
			end
			options[k] = v
		end
	end
	local bits = options.window_bits or DEFAULT_BITS
	if math.type(bits) ~= "integer" or bits < LEAST_BITS or bits > MOST_BITS then
		error(string.format("websocket option window_bits must be an integer from %d to %d, not %s",
			LEAST_BITS, MOST_BITS, tostring(bits)), 0)
	end
	options.window_bits = bits
	return options
end

---Check settings of compression. Raises what is wrong.
---@param deflate boolean|websocket.deflate|nil
---@return table? # with defaults, as wscodec.new takes them
function handshake.deflate(deflate)
	return deflate_options(deflate)
end

-- What wscodec.new needs to compress.
local function deflate_of(options, bits, no_context)
	return {
		window_bits = bits,
		no_context = no_context,
		level = options.level,
		mem_level = options.mem_level,
		threshold = options.threshold,
	}
end

-- "name; a; b=1" -> name, { a = true, b = "1" }; nil if a parameter comes twice.
local function parse_extension(text)
	local name, rest = text:match "^%s*([^;%s]+)%s*(.*)$"
	if not name then
		return nil
	end
	local params = {}
	for param in rest:gmatch "[^;]+" do
		local key, value = param:match "^%s*([^=%s]+)%s*=%s*(.-)%s*$"
		key = key or param:match "^%s*(.-)%s*$"
		if key ~= "" then
			if params[key] then
				return nil
			end
			params[key] = value and (value:match '^"(.*)"$' or value) or true
		end
	end
	return name:lower(), params
end

-- The window of a parameter value; nil if it is none.
local function window(value)
	local bits = type(value) == "string" and value:match "^[1-9]%d?$"
	bits = bits and math.tointeger(tonumber(bits))
	return bits and bits >= 8 and bits <= MOST_BITS and bits or nil
end

local PARAMETER = {
	server_no_context_takeover = function(value) return value == true end,
	client_no_context_takeover = function(value) return value == true end,
	server_max_window_bits = window,
	client_max_window_bits = function(value) return value == true or window(value) end,
}

local function are_valid(params)
	for key, value in pairs(params) do
		local check = PARAMETER[key]
		if not (check and check(value)) then
			return false
		end
	end
	return true
end

-- The server's answer to one offer: the text and what it means; nil = not this one.
local function answer_offer(params, options)
	if not are_valid(params) then
		return nil
	end
	local reply = { "permessage-deflate" }
	local out_bits = math.min(window(params.server_max_window_bits) or MOST_BITS, options.window_bits)
	if out_bits < LEAST_BITS then
		return nil
	end
	local in_bits = MOST_BITS
	local alone_out = params.server_no_context_takeover or options.no_context_takeover or false
	local alone_in = params.client_no_context_takeover or options.no_context_takeover or false
	if alone_out then
		reply[#reply + 1] = "server_no_context_takeover"
	end
	if alone_in then
		reply[#reply + 1] = "client_no_context_takeover"
	end
	if out_bits < MOST_BITS or params.server_max_window_bits then
		reply[#reply + 1] = "server_max_window_bits=" .. out_bits
	end
	if params.client_max_window_bits then
		in_bits = math.min(window(params.client_max_window_bits) or MOST_BITS, options.window_bits)
		reply[#reply + 1] = "client_max_window_bits=" .. in_bits
	end
	return table.concat(reply, "; "), {
		inflate = { window_bits = math.max(in_bits, LEAST_BITS), no_context = alone_in },
		deflate = deflate_of(options, out_bits, alone_out),
	}
end

-- The first offer that can be accepted.
local function choose_extension(value, deflate)
	local options = deflate_options(deflate)
	if not options then
		return nil
	end
	for _, offer in ipairs(tokens(value)) do
		local name, params = parse_extension(offer)
		if name == "permessage-deflate" then
			local text, meaning = answer_offer(params, options)
			if text then
				return text, meaning
			end
		end
	end
end

--------------------------------------------------------------------- server

---@class websocket.request
---@field url string
---@field header table<string, string|string[]>
---@field rest string? bytes that followed

---Understand the lines of a request.
---@param lines string[]
---@return websocket.request?
---@return integer? # status to refuse with
---@return string? # its body
function handshake.parse_request(lines)
	local method, url, version = (lines[1] or ""):match "^(%a+) +(%S+) +HTTP/(%d+%.?%d*)$"
	if not method then
		return nil, 400
	elseif method ~= "GET" then
		return nil, 400, "need GET method"
	elseif tonumber(version) < 1.1 then
		return nil, 505
	end
	local header = internal.parseheader(lines, 2, {})
	if not header then
		return nil, 400
	end
	return { url = url, header = header }
end

-- The first of our protocols' names that the client offers, in the client's order.
local function choose_protocol(value, ours)
	for _, offered in ipairs(tokens(value)) do
		for _, name in ipairs(ours) do
			if offered == name then
				return name
			end
		end
	end
end

local function check_key(key)
	if key == nil then
		return "Sec-WebSocket-Key Required"
	end
	local ok, bytes = pcall(crypt.base64decode, key)
	if type(key) ~= "string" or not ok or #bytes ~= KEY_BYTES then
		return "Sec-WebSocket-Key invalid"
	end
end

-- Reason to refuse: status, text, extra header line.
local function check_request(header)
	if (joined(header.upgrade) or ""):lower() ~= "websocket" then
		return 426, "Upgrade Required", "upgrade: websocket\r\nconnection: Upgrade\r\n"
	end
	if header.host == nil then
		return 400, "host Required"
	end
	if not has_token(header.connection, "upgrade") then
		return 400, "Connection must Upgrade"
	end
	local wrong = check_key(header["sec-websocket-key"])
	if wrong then
		return 400, wrong
	end
	if header["sec-websocket-version"] ~= "13" then
		return 400, "Sec-WebSocket-Version must 13", "sec-websocket-version: 13\r\n"
	end
end

local function is_allowed_origin(origin, allowed)
	if not allowed then
		return true
	end
	for _, name in ipairs(allowed) do
		if name == "*" or (type(origin) == "string" and origin:lower() == name:lower()) then
			return true
		end
	end
	return false
end

---@class websocket.server_options
---@field protocols string[]? the subprotocols that may be agreed on; default { "chat" }
---@field origins string[]? pages of these origins may connect, and nobody without one; "*" = any
---@field deflate boolean|websocket.deflate? accept compressed messages; default false

---Check the header of a request for an upgrade.
---@param header table<string, string|string[]>
---@param options websocket.server_options
---@return string? # the 101 response, or nil
---@return websocket.negotiated|integer # what was agreed on, or the status to refuse with
---@return string? # then its body
---@return string? # then extra header lines
function handshake.answer(header, options)
	local status, text, extra = check_request(header)
	if status then
		return nil, status, text, extra
	end
	if not is_allowed_origin(header.origin, options.origins) then
		return nil, 403, "Origin not allowed"
	end
	local key = header["sec-websocket-key"] --[[@as string]]
	local lines = {
		"HTTP/1.1 101 Switching Protocols",
		"Upgrade: websocket",
		"Connection: Upgrade",
		"Sec-WebSocket-Accept: " .. handshake.accept_key(key),
	}
	local protocol = choose_protocol(header["sec-websocket-protocol"], options.protocols or { "chat" })
	if protocol then
		lines[#lines + 1] = "Sec-WebSocket-Protocol: " .. protocol
	end
	local extension, agreed = choose_extension(header["sec-websocket-extensions"], options.deflate)
	if extension then
		lines[#lines + 1] = "Sec-WebSocket-Extensions: " .. extension
	end
	agreed = agreed or {}
	agreed.protocol = protocol
	return table.concat(lines, "\r\n") .. "\r\n\r\n", agreed
end

---A response that refuses; the connection ends after it.
---@param status integer
---@param body string?
---@param extra string? header lines
---@return string
function handshake.refusal(status, body, extra)
	body = body or ""
	return string.format("HTTP/1.1 %03d %s\r\n%scontent-length: %d\r\n\r\n%s",
		status, REASON[status] or "", extra or "", #body, body)
end

--------------------------------------------------------------------- client

-- `Host` may be given: proxies and virtual servers need it.
local RESERVED = {
	["upgrade"] = true,
	["connection"] = true,
	["sec-websocket-key"] = true,
	["sec-websocket-version"] = true,
}

local function add_header(lines, name, value)
	local text = name .. ": " .. tostring(value)
	if text:find "[\r\n%z]" or not name:find "^[%w!#$%%&'*+%-.^_`|~]+$" then
		error(string.format("websocket: header %q has an invalid name or value", name), 0)
	end
	lines[#lines + 1] = text
end

local function add_headers(lines, header)
	local has_host = false
	for name, value in pairs(header or {}) do
		local lower = name:lower()
		assert(not RESERVED[lower], "websocket: the header " .. name .. " is set by the handshake")
		has_host = has_host or lower == "host"
		for _, v in ipairs(type(value) == "table" and value or { value }) do
			add_header(lines, name, v)
		end
	end
	return has_host
end

local function offer_of(options)
	local offer = { "permessage-deflate", "client_max_window_bits" }
	if options.window_bits < MOST_BITS then
		offer[#offer + 1] = "server_max_window_bits=" .. options.window_bits
	end
	if options.no_context_takeover then
		offer[#offer + 1] = "client_no_context_takeover"
		offer[#offer + 1] = "server_no_context_takeover"
	end
	return table.concat(offer, "; ")
end

---@class websocket.client_options
---@field protocols string[]? subprotocols to offer, the preferred first
---@field deflate boolean|websocket.deflate? offer compression; default false

---A request for an upgrade.
---@param host string the value of Host
---@param path string with the query
---@param header table<string, string|string[]>? more headers
---@param options websocket.client_options
---@return string # the request
---@return string # its key
function handshake.request(host, path, header, options)
	local key = crypt.base64encode(crypt.randomkey() .. crypt.randomkey())
	if path:find "[%s%c]" then
		error(string.format("websocket: invalid path %q in the url", path), 0)
	end
	local lines = { "GET " .. path .. " HTTP/1.1" }
	if not add_headers(lines, header) then
		table.insert(lines, 2, "Host: " .. host)
	end
	add_header(lines, "Upgrade", "websocket")
	add_header(lines, "Connection", "Upgrade")
	add_header(lines, "Sec-WebSocket-Key", key)
	add_header(lines, "Sec-WebSocket-Version", "13")
	if options.protocols and #options.protocols > 0 then
		add_header(lines, "Sec-WebSocket-Protocol", table.concat(options.protocols, ", "))
	end
	local deflate = deflate_options(options.deflate)
	if deflate then
		add_header(lines, "Sec-WebSocket-Extensions", offer_of(deflate))
	end
	return table.concat(lines, "\r\n") .. "\r\n\r\n", key
end

-- What the server made of our offer; nil and why it must not have.
local function read_extension(value, deflate)
	local options = deflate_options(deflate)
	local list = tokens(value)
	if #list == 0 then
		return {}
	end
	local name, params = parse_extension(list[1])
	if not options or #list > 1 or name ~= "permessage-deflate" or not are_valid(params)
		or params.client_max_window_bits == true then
		return nil, "Sec-WebSocket-Extensions was not offered"
	end
	local in_bits = window(params.server_max_window_bits) or MOST_BITS
	if in_bits > options.window_bits then
		return nil, "server_max_window_bits is larger than offered"
	end
	local out_bits = math.min(window(params.client_max_window_bits) or MOST_BITS, options.window_bits)
	local alone_out = params.client_no_context_takeover or options.no_context_takeover or false
	return {
		inflate = {
			window_bits = math.max(in_bits, LEAST_BITS),
			no_context = params.server_no_context_takeover,
		},
		-- zlib has no window so small: messages go out as they are.
		deflate = out_bits >= LEAST_BITS and deflate_of(options, out_bits, alone_out) or nil,
	}
end

local function check_protocol(value, header, options)
	if value == nil then
		return true
	end
	local offered = options.protocols
	if not offered then
		for name, list in pairs(header or {}) do
			if name:lower() == "sec-websocket-protocol" then
				offered = tokens(list)
			end
		end
	end
	for _, name in ipairs(offered or {}) do
		if name == value then
			return true
		end
	end
	return false
end

---Check the response to a request.
---@param code integer
---@param recvheader table<string, string|string[]>
---@param key string the request's
---@param header table? the caller's headers of the request
---@param options websocket.client_options
---@return websocket.negotiated? # or nil
---@return string? # why not
function handshake.check_response(code, recvheader, key, header, options)
	if code ~= 101 then
		return nil, string.format("websocket handshake error: code[%s]", code)
	end
	if (joined(recvheader.upgrade) or ""):lower() ~= "websocket" then
		return nil, "websocket handshake upgrade must websocket"
	end
	if not has_token(recvheader.connection, "upgrade") then
		return nil, "websocket handshake connection must upgrade"
	end
	local accept = recvheader["sec-websocket-accept"]
	if accept == nil then
		return nil, "websocket handshake need Sec-WebSocket-Accept"
	end
	if accept ~= handshake.accept_key(key) then
		return nil, "websocket handshake invalid Sec-WebSocket-Accept"
	end
	local protocol = recvheader["sec-websocket-protocol"]
	if not check_protocol(protocol, header, options) then
		return nil, "websocket handshake: the server chose a subprotocol that was not offered"
	end
	local agreed, err = read_extension(recvheader["sec-websocket-extensions"], options.deflate)
	if not agreed then
		return nil, "websocket handshake: " .. err
	end
	agreed.protocol = protocol --[[@as string?]]
	return agreed
end

return handshake
