-- http.fetch: requests with everything that a user of the web expects: connections
-- that are used again, redirects, proxies, compressed responses, streams, a time for
-- each phase. httpc.fetch is the way in. Keeps nothing between calls but the pool of
-- http.client.

local skynet = require "skynet"
local crypt = require "skynet.crypt"
local check_options = require "skynet.options".check
local client = require "http.client"
local codec = require "http.codec"
local exchange = require "http.exchange"
local url = require "http.url"
local sockethelper = require "http.sockethelper"

local MAX_REDIRECTS = 5
-- Bytes of a body that is kept in memory, unless the caller says otherwise.
local BODY_LIMIT = 64 * 1024 * 1024
-- 1/100 s for each phase, likewise.
local TIMEOUTS = { dns = 1000, connect = 1000, tls = 1000, header = 6000, body = 6000 }

local RULES = {
	method = "string",
	header = "table",
	body = "string|function",
	timeout = "number|table",
	redirects = "count",
	proxy = "string|false",
	gzip = "boolean",
	keepalive = "boolean",
	body_limit = "number",
	stream = "boolean",
	tls = "table|userdata",
}
local TIMEOUT_RULES = { total = "number" }
for phase in pairs(TIMEOUTS) do
	TIMEOUT_RULES[phase] = "number"
end

---@class http.fetch.options
---@field method string? default GET, or POST when there is a body
---@field header table<string, string|number|(string|number)[]>?
---@field body string|nil|fun(): string? a function gives pieces until nil; sent chunked
---@field timeout http.timeouts|integer|nil a number is for the phases dns to body, each;
---by default 10 s for dns, connect and tls, 60 s for header and body
---@field redirects integer? how many to follow, default 5
---@field proxy string? "http://[user:password@]host:port"
---@field gzip boolean? ask for compressed responses and unpack them, default true
---@field keepalive boolean? use connections again, default true
---@field body_limit integer? bytes of the body, unpacked; default 64 MiB; streams: none
---@field stream boolean? read the body with response:read
---@field tls skynet.tls.options? `verify = false` accepts any certificate

---@class http.fetch.response
---@field status integer
---@field reason string
---@field header table<string, string|string[]> as it came
---@field url string of the last request
---@field body string? unless it is a stream
local response = {}
response.__index = response

-------------------------------------------------------------------- requests

local function timeouts_of(timeout)
	local result = {}
	for phase, time in pairs(TIMEOUTS) do
		if type(timeout) == "table" then
			time = timeout[phase] or time
		end
		result[phase] = type(timeout) == "number" and timeout or time
	end
	result.total = type(timeout) == "table" and timeout.total or nil
	return result
end

-- User info of a URL as credentials; a plus sign in it is itself.
local function basic(user)
	return "Basic " .. crypt.base64encode(url.decode((user:gsub("%+", "%%2B"))))
end

local function proxy_of(text)
	if not text then
		return nil
	end
	local scheme, user, rest = text:match "^(%a+://)([^@/]*)@(.*)$"
	local place = client.place(user and scheme .. rest:gsub("/$", "") or (text:gsub("/$", "")))
	if place.scheme ~= "http" then
		error("Invalid proxy: only http:// is supported, got " .. text, 0)
	end
	return {
		place = place,
		name = place.host .. ":" .. place.port .. "|" .. (user or ""),
		authorization = user and basic(user),
	}
end

-- What one exchange needs to know.
local function new_request(target, options)
	local parts = url.split(target)
	if not parts then
		error("Invalid URL: " .. tostring(target), 0)
	elseif parts.target:find "[%c ]" then
		error("Invalid URL: a blank or control byte in " .. parts.target, 0)
	end
	local header = {}
	for name, value in pairs(options.header or {}) do
		header[tostring(name):lower()] = value
	end
	return {
		url = target,
		place = client.place(parts.scheme .. "://" .. parts.authority),
		target = parts.target,
		method = options.method or options.body and "POST" or "GET",
		header = header,
		body = options.body,
	}
end

-- Connections of one key may stand for each other.
local function key_of(place, context)
	local key = string.format("%s|%s|%d", place.scheme, place.host:lower(), place.port)
	if context.proxy then
		key = key .. "|" .. context.proxy.name
	end
	if context.tls then
		key = key .. "|" .. client.tls_name(context.tls)
	end
	return key
end

local function has_body_length(method)
	return method ~= "GET" and method ~= "HEAD" and method ~= "OPTIONS" and method ~= "DELETE"
end

-- The bytes of a request up to its body, with it when it is a string.
local function request_text(req, context)
	local header, body, target = req.header, req.body, req.target
	local place = req.place
	local extra = header.host and "" or "host: " .. place.authority .. "\r\n"
	if context.gzip and not header["accept-encoding"] then
		extra = extra .. "accept-encoding: gzip\r\n"
	end
	if not context.keepalive then
		extra = extra .. "connection: close\r\n"
	end
	if context.proxy and place.scheme == "http" then
		target = "http://" .. place.authority .. target
		if context.proxy.authorization then
			extra = extra .. "proxy-authorization: " .. context.proxy.authorization .. "\r\n"
		end
	end
	if type(body) == "function" then
		extra = extra .. "transfer-encoding: chunked\r\n"
	elseif body or has_body_length(req.method) then
		extra = extra .. "content-length: " .. #(body or "") .. "\r\n"
	end
	if not codec.is_token(req.method) then
		error("Invalid HTTP method " .. tostring(req.method), 0)
	end
	return codec.message(req.method .. " " .. target .. " HTTP/1.1", header, extra,
		type(body) == "string" and body or nil, true)
end

local function send_pieces(conn, next_piece)
	for piece in next_piece do
		if piece ~= "" then
			conn:write(codec.chunk(piece))
		end
	end
	conn:write(codec.chunk "")
end

local function send(conn, text, body)
	conn:write(text)
	if type(body) == "function" then
		send_pieces(conn, body)
	end
end

-- Send a request and read the head of its response. A server may answer before it has
-- read the request, and refuse the rest of it. Yields.
local function ask(conn, req, text, context)
	conn:enter("header", context.timeouts.header)
	local ok, err = pcall(send, conn, text, req.body)
	if not ok and (err ~= sockethelper.socket_error or conn.expired) then
		error(err, 0)
	end
	local answered, head = pcall(exchange.head, conn, req.method)
	if not answered then
		error(ok and head or err, 0)
	end
	if not ok then
		head.keep_alive = false
	end
	return head
end

-- Methods that may be sent again when a connection that was used before has ended
-- meanwhile (RFC 9110, 9.2.2).
local REPEATABLE = {
	GET = true,
	HEAD = true,
	OPTIONS = true,
	PUT = true,
	DELETE = true,
	TRACE = true,
}

-- One exchange up to the head of its response. Yields.
local function converse(req, context)
	local text = request_text(req, context)
	local key = context.keepalive and key_of(req.place, context)
	local conn = key and client.reuse(key)
	while true do
		conn = conn or client.connect(req.place, context, key or nil)
		conn.total_at = context.total_at
		local ok, head = pcall(ask, conn, req, text, context)
		if ok then
			return conn, head
		end
		local again = conn.reused and not conn.expired and REPEATABLE[req.method]
			and type(req.body) ~= "function" and conn.reader:size() == 0
		client.close(conn)
		if not again then
			error(head, 0)
		end
		conn = nil
	end
end

---------------------------------------------------------------------- bodies

-- The pieces of a body, unpacked, at most `limit` bytes of them.
local function unpacked(next_piece, limit)
	local z = require "http.gzip".inflater()
	local got, ended = 0, false
	return function()
		while true do
			local data = z:pull()
			if data then
				got = got + #data
				if limit and got > limit then
					error("Invalid response body: too large", 0)
				end
				return data
			end
			data = not ended and next_piece()
			if data then
				z:push(data)
			elseif not ended then
				ended = true
				if not z:complete() then
					error("Invalid response body: the gzip data ended too early", 0)
				end
			else
				return nil
			end
		end
	end
end

local PACKED = { gzip = true, ["x-gzip"] = true, deflate = true }

local function pieces_of(conn, head, limit, context)
	local coding = head.header["content-encoding"]
	if context.gzip and type(coding) == "string" and PACKED[coding:lower()] and head.how ~= "none"
		and head.how ~= 0 then
		return unpacked(exchange.pieces(conn, head.how, head.header, nil), limit)
	end
	return exchange.pieces(conn, head.how, head.header, limit)
end

local function finish(self, complete)
	local conn = self.conn
	if conn then
		self.conn = nil
		if complete and self.keep_alive and self.how ~= "close" then
			client.release(conn)
		else
			client.close(conn)
		end
	end
end

---The next piece of the body, nil at its end; nil and a reason when the connection
---fails. Yields.
---@return string?
---@return string? err
function response:read()
	if not self.conn then
		return nil, self.err
	end
	local ok, data = pcall(self.next_piece)
	if not ok then
		self.err = tostring(data):gsub("^%[Socket Error%] : ", "")
		finish(self, false)
		return nil, self.err
	elseif data == nil then
		finish(self, true)
	end
	return data
end

---End a stream that is not read to its end. Yields.
function response:close()
	finish(self, false)
end

response.__close = response.close

------------------------------------------------------------------- redirects

local REDIRECT = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }
-- Fields that are of no use, or dangerous, elsewhere.
local PRIVATE = { "authorization", "cookie", "proxy-authorization", "host" }

-- The request that a redirect asks for, nil when it asks for none. Raises.
local function redirected(req, head)
	local location = head.header.location
	if not REDIRECT[head.status] or type(location) ~= "string" then
		return nil
	end
	local target = url.resolve(req.url, location)
	local next_req = new_request(target, { header = req.header, method = req.method })
	local to_get = head.status == 303 and req.method ~= "HEAD"
		or head.status <= 302 and req.method == "POST"
	if to_get then
		next_req.method = "GET"
		next_req.header["content-type"] = nil
	elseif type(req.body) == "function" then
		error("cannot send a streamed body again to " .. target, 0)
	else
		next_req.body = req.body
	end
	local a, b = req.place, next_req.place
	if a.scheme ~= b.scheme or a.host ~= b.host or a.port ~= b.port then
		for _, name in ipairs(PRIVATE) do
			next_req.header[name] = nil
		end
	end
	return next_req
end

-- Read away the short body of a redirect, so that the connection can be used again.
local function pass_over(conn, head)
	local how = head.how
	if head.keep_alive and (how == "none" or how == "chunked" or math.type(how) == "integer") then
		if pcall(exchange.join, exchange.pieces(conn, how, {}, 65536)) then
			return client.release(conn)
		end
	end
	client.close(conn)
end

-- The head of a response that no redirect is looked for in.
local NO_REDIRECT = { header = {} }

local function follow(req, context, most)
	for _ = 0, most do
		local conn, head = converse(req, context)
		conn:enter("body", context.timeouts.body)
		local ok, next_req = pcall(redirected, req, most > 0 and head or NO_REDIRECT)
		if not ok then
			client.close(conn)
			error(next_req, 0)
		elseif not next_req then
			return req, conn, head
		end
		pass_over(conn, head)
		req = next_req
	end
	error("too many redirects, the last one to " .. req.url, 0)
end

local function read_body(self, head, options, context)
	local limit = options.body_limit or not options.stream and BODY_LIMIT or nil
	self.next_piece = pieces_of(self.conn, head, limit, context)
	if not options.stream then
		self.body = exchange.join(self.next_piece)
	end
end

local function fetch(target, options)
	check_options("http.fetch", options, RULES)
	if type(options.timeout) == "table" then
		check_options("http.fetch, timeout", options.timeout, TIMEOUT_RULES)
	end
	local timeouts = timeouts_of(options.timeout)
	local context = {
		timeouts = timeouts,
		total_at = timeouts.total and skynet.now() + timeouts.total,
		proxy = proxy_of(options.proxy),
		tls = options.tls,
		gzip = options.gzip ~= false,
		keepalive = options.keepalive ~= false,
	}
	local most = options.redirects or MAX_REDIRECTS
	-- It is there, with room for all, before the connection that it has to close.
	local self = setmetatable({
		status = nil,
		reason = nil,
		header = nil,
		url = nil,
		how = nil,
		keep_alive = nil,
		conn = nil,
	}, response)
	local req, conn, head = follow(new_request(target, options), context, most)
	self.conn = conn
	self.status, self.reason, self.header = head.status, head.reason, head.header
	self.url, self.how, self.keep_alive = req.url, head.how, head.keep_alive
	local ok, err = pcall(read_body, self, head, options, context)
	if not ok then
		finish(self, false)
		error(err, 0)
	end
	if not options.stream then
		finish(self, true)
	end
	return self
end

---Make a request. Yields.
---@param target string absolute URL, http or https
---@param options http.fetch.options?
---@return http.fetch.response? # or nil
---@return string? # why not
return function(target, options)
	local ok, result = pcall(fetch, target, options or {})
	if ok then
		return result
	end
	local why = tostring(result):gsub("^%[Socket Error%] : ", "")
	return nil, why
end
