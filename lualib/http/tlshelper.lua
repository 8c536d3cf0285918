-- http.tlshelper: TLS as the functions that the HTTP modules read and write with. A
-- lost connection raises the socket_error of http.sockethelper, whatever is wrong in
-- TLS itself raises a text.
--
-- The functions of one session share what was decrypted and not yet read. They own
-- neither the socket nor, until closefunc, the session.

local skynet = require "skynet"
local sockethelper = require "http.sockethelper"
local stream = require "skynet.tlsstream"
local tls = require "skynet.tls"
local ltls = require "ltls.c"

---@class http.tlshelper
local tlshelper = {}

-- session -> its stream
local streams = setmetatable({}, { __mode = "k" })

local function stream_of(id, session)
	local s = streams[session]
	if s == nil or s.id ~= id then
		s = stream.new(id, session)
		streams[session] = s
	end
	return s
end

local function deadline_of(timeout)
	return timeout and skynet.now() + timeout
end

-- What a stream that has ended, or is late, raises.
local function fail(s)
	local reason = s.ended and s.reason
	if reason and not reason:find("^truncated") and reason ~= "closed" then
		error(reason, 0)
	end
	error(sockethelper.socket_error, 0)
end

---A context; clients made from it verify their peer unless `verify` is false.
---@param opts skynet.tls.options?
---@return userdata
tlshelper.newctx = tls.context

---A session. The host name is the one a client asks for and expects a certificate of.
---@param method "client"|"server"
---@param ctx userdata
---@param hostname string?
---@return userdata
tlshelper.newtls = ltls.newtls

-- Time for a handshake unless the caller says otherwise, 1/100 s.
local HANDSHAKE_TIMEOUT = 1000

local function do_handshake(s, timeout)
	local ok, reason = s:handshake(deadline_of(timeout or HANDSHAKE_TIMEOUT))
	if ok then
		return
	elseif reason == "timeout" or reason:find("^the peer closed") then
		error(sockethelper.socket_error, 0)
	end
	error(reason, 0)
end

---A function that does the handshake of a client. It yields and raises.
---@param id integer
---@param session userdata
---@param timeout integer? 1/100 s, default 1000
---@return fun(hostname: string?)
function tlshelper.init_requestfunc(id, session, timeout)
	return function(hostname)
		if hostname then
			session:set_ext_host_name(hostname)
		end
		do_handshake(stream_of(id, session), timeout)
	end
end

---A function that does the handshake of a server. It yields and raises.
---@param id integer
---@param session userdata
---@param timeout integer? 1/100 s, default 1000
---@return fun()
function tlshelper.init_responsefunc(id, session, timeout)
	return function()
		do_handshake(stream_of(id, session), timeout)
	end
end

---A function that reads: read() gives what there is, never "", read(n) exactly n
---bytes. It yields, and raises at the end.
---@param id integer
---@param session userdata
---@param timeout integer? 1/100 s for each read
---@return fun(n: integer?): string
function tlshelper.readfunc(id, session, timeout)
	local s = stream_of(id, session)
	return function(n)
		if n == 0 then
			return ""
		end
		local deadline = deadline_of(timeout)
		repeat
			local data
			if n then
				data = s:pop(n)
			else
				data = s:take()
			end
			if data and data ~= "" then
				return data
			elseif s.ended then
				fail(s)
			end
		until not s:fill(deadline)
		fail(s)
	end
end

---A function that writes, without yielding; it raises when the connection takes
---nothing more.
---@param id integer
---@param session userdata
---@return fun(data: string|string[])
function tlshelper.writefunc(id, session)
	local s = stream_of(id, session)
	return function(data)
		if type(data) == "table" then
			data = table.concat(data)
		end
		if not s:write(data) then
			fail(s)
		end
	end
end

---A function that reads to the end of the stream. It yields, and raises if the peer
---has not ended the stream as TLS demands: something may be missing.
---@param id integer
---@param session userdata
---@param timeout integer? 1/100 s
---@return fun(): string
function tlshelper.readallfunc(id, session, timeout)
	local s = stream_of(id, session)
	return function()
		local deadline = deadline_of(timeout)
		while not s.ended do
			if not s:fill(deadline) then
				fail(s)
			end
		end
		if s.reason then
			fail(s)
		end
		return s:take()
	end
end

---A function that ends the stream and frees the session; the socket stays. It does not
---yield.
---@param session userdata
---@return fun()
function tlshelper.closefunc(session)
	return function()
		local s = streams[session]
		if s then
			s:finish()
			streams[session] = nil
		end
		session:close()
	end
end

return tlshelper
