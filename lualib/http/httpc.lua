-- http.httpc: an HTTP client. `request` and its relatives make one exchange on a
-- connection of their own; `fetch` does all that is usual on the web. Failures of the
-- former raise; of the network, the socket_error of http.sockethelper. Keeps the
-- settings below and nothing else.

local client = require "http.client"
local exchange = require "http.exchange"
local fetch = require "http.fetch"
local internal = require "http.internal"

---@class http.httpc
---@field timeout integer? 1/100 s for connecting, and again for the rest of a request
---@field body_limit integer? most bytes of a response's body, default 64 MiB
---@field tls skynet.tls.options? for https hosts; `verify = false` accepts any certificate
local httpc = {
	body_limit = 64 * 1024 * 1024,
}

---Make a request, see http.fetch. Yields.
---@type fun(target: string, options: http.fetch.options?): http.fetch.response?, string?
httpc.fetch = fetch
---Close the idle connections that fetch has kept. Does not yield.
httpc.flush = client.flush

---Resolve host names with skynet.dns from now on. Does not yield.
---@param server string? address of a name server; default: the system's
---@param port integer?
function httpc.dns(server, port)
	if server ~= nil and type(server) ~= "string" then
		require "skynet.misuse"("httpc.dns", 1, "address of a name server", server)
	end
	local dns = require "skynet.dns"
	dns.server(server, port)
	client.resolve = function(name)
		local ok, address, all = pcall(dns.resolve, name)
		if not ok then
			-- Perhaps it has addresses of the other kind only.
			local has_v6, v6, all_v6 = pcall(dns.resolve, name, true)
			if not has_v6 then
				error(address, 0)
			end
			address, all = v6, all_v6
		end
		if not address then
			error(all, 0)
		end
		return all
	end
end

local function open(host)
	local time = httpc.timeout
	local place = client.place(host)
	local conn = client.connect(place, {
		timeouts = { dns = time, connect = time, tls = time, header = time },
		tls = httpc.tls,
	})
	conn:enter("exchange", time)
	return conn, place
end

-- Send a request and read the head of the response. Yields.
local function converse(conn, place, method, url, recvheader, header, content)
	conn:write(internal.request_text(method, place.authority, url, header, content))
	local head = exchange.head(conn, method)
	if recvheader then
		for name, value in pairs(head.header) do
			recvheader[name] = value
		end
		head.header = recvheader
	end
	return head
end

-- An argument left out puts all others in wrong places.
local function check_table(name, value)
	if value ~= nil and type(value) ~= "table" then
		error(string.format("httpc: %s is a table or nil, not a %s: the order is host, url, recvheader, "
			.. "header, content", name, type(value)), 0)
	end
end

-- What each request has.
local function check_request(method, url, recvheader, header)
	if type(method) ~= "string" then
		error('httpc: the method is a string such as "GET", not a ' .. type(method), 0)
	elseif type(url) ~= "string" then
		error('httpc: the url is a string such as "/a?b=c", not a ' .. type(url), 0)
	end
	check_table("recvheader", recvheader)
	check_table("header", header)
end

-- Close the connection whatever came of it. Yields.
local function results(conn, ok, ...)
	client.close(conn)
	if not ok then
		error(..., 0)
	end
	return ...
end

-- Run f(conn, place, ...) and close the connection. Yields.
local function with_connection(host, f, ...)
	local conn, place = open(host)
	return results(conn, pcall(f, conn, place, ...))
end

local function request(conn, place, ...)
	local head = converse(conn, place, ...)
	local body = exchange.join(exchange.pieces(conn, head.how, head.header, httpc.body_limit))
	return head.status, body
end

---Make a request. Raises. Yields.
---@param method string
---@param host string "name", "name:port", "[v6]:port", after an optional http:// or https://
---@param url string the target, such as "/a?b=c"
---@param recvheader table? gets the header of the response
---@param header table<string, string|number|(string|number)[]>?
---@param content string?
---@return integer status
---@return string body
function httpc.request(method, host, url, recvheader, header, content)
	check_request(method, url, recvheader, header)
	return with_connection(host, request, method, url, recvheader, header, content)
end

---The same with GET. Yields.
---@param host string
---@param url string
---@param recvheader table?
---@param header table<string, string|number|(string|number)[]>?
---@param content string?
---@return integer status
---@return string body
function httpc.get(host, url, recvheader, header, content)
	return httpc.request("GET", host, url, recvheader, header, content)
end

---The same with HEAD. Yields.
---@param host string
---@param url string
---@param recvheader table?
---@param header table<string, string|number|(string|number)[]>?
---@param content string?
---@return integer status
function httpc.head(host, url, recvheader, header, content)
	check_request("HEAD", url, recvheader, header)
	return (with_connection(host, request, "HEAD", url, recvheader, header, content))
end

local function form_encode(text)
	return (tostring(text):gsub("[^%w_]", function(c)
		return string.format("%%%02X", c:byte())
	end))
end

---Post a form. Raises. Yields.
---@param host string
---@param url string
---@param form table<string, string|number>
---@param recvheader table?
---@return integer status
---@return string body
function httpc.post(host, url, form, recvheader)
	if type(form) ~= "table" then
		error("httpc.post: the form is a table, not a " .. type(form), 0)
	end
	local pairs_of = {}
	for name, value in pairs(form) do
		pairs_of[#pairs_of + 1] = form_encode(name) .. "=" .. form_encode(value)
	end
	return httpc.request("POST", host, url, recvheader,
		{ ["content-type"] = "application/x-www-form-urlencoded" }, table.concat(pairs_of, "&"))
end

---Make a request and read the body of its response piece by piece: see http.stream. It
---must be closed unless it is read to its end. Raises. Yields.
---@param method string
---@param host string
---@param url string
---@param recvheader table?
---@param header table<string, string|number|(string|number)[]>?
---@param content string?
---@return http.stream
function httpc.request_stream(method, host, url, recvheader, header, content)
	check_request(method, url, recvheader, header)
	local conn, place = open(host)
	local ok, head = pcall(converse, conn, place, method, url, recvheader, header, content)
	if not ok then
		client.close(conn)
		error(head, 0)
	end
	-- No time limit after the header.
	conn:enter "body"
	return exchange.stream(conn, head.status, head.header, head.how, nil, function()
		client.close(conn)
	end)
end

return httpc
