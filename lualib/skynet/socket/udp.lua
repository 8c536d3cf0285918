-- skynet.socket.udp: the datagrams of skynet.socket, which loads this file when one of its
-- functions is first used there.
--
-- Owns nothing: the sockets are records of skynet.socket as others are, and it hands each
-- datagram to the callback of its socket. So many of these calls may wait for something at a
-- time; further datagrams are dropped, as UDP always may.

local driver = require "skynet.socketdriver"
local inbox = require "skynet.socketinbox"
local netpack = require "skynet.netpack"

-- Callbacks of a socket under way, unless udp_limit says otherwise.
local DEFAULT_LIMIT = 1024

-- A callback has ended, however it did.
local record_meta = { __close = function(s) s.running = s.running - 1 end }

---The functions for one service.
---@param pool table<integer, skynet.socket.record> its sockets
---@param numeric fun(host: string, port: integer?, problem: string): string, integer of skynet.socket.name
---@return skynet.socket.udp
return function(pool, numeric)
	---@class skynet.socket.udp
	local M = {}

	local function add(id, cb)
		pool[id] = setmetatable({ id = id, kind = "udp", connected = true, callback = cb, inbox = inbox.open(nil),
			take = netpack.tostring, running = 0, most_running = DEFAULT_LIMIT }, record_meta)
	end

	-- Nobody else knows the id: it is closed if there is no memory for it.
	local function new_udp(id, cb)
		local ok, err = pcall(add, id, cb)
		if not ok then
			driver.close(id)
			error(err, 0)
		end
		return id
	end

	---Make a UDP socket; close it with close. Yields if the host is a name.
	---@param cb fun(data: string, from: string) called for each datagram; may yield
	---@param host string? address to bind
	---@param port integer?
	---@return integer id
	function M.udp(cb, host, port)
		if host then
			host, port = numeric(host, port, "udp init failed")
		end
		return new_udp(driver.udp(host, port), cb)
	end

	---Set the destination of write. Yields if the address is a name.
	---@param id integer
	---@param addr string
	---@param port integer?
	---@param cb fun(data: string, from: string)? replaces the callback
	function M.udp_connect(id, addr, port, cb)
		local s = pool[id]
		if s == nil then
			add(id, cb)
		elseif cb then
			s.callback = cb
		end
		addr, port = numeric(addr, port, "udp connect failed")
		driver.udp_connect(id, addr, port)
	end

	---A UDP socket bound to an address. Yields if that is a name.
	---@param addr string
	---@param port integer?
	---@param cb fun(data: string, from: string)
	---@return integer id
	function M.udp_listen(addr, port, cb)
		addr, port = numeric(addr, port, "udp listen host failed")
		return new_udp(driver.udp_listen(addr, port), cb)
	end

	---A UDP socket that writes to an address. Yields if that is a name.
	---@param addr string
	---@param port integer?
	---@param cb fun(data: string, from: string)
	---@return integer id
	function M.udp_dial(addr, port, cb)
		addr, port = numeric(addr, port, "udp dial host failed")
		return new_udp(driver.udp_dial(addr, port), cb)
	end

	---How many callbacks of a socket may be under way because they yield, 1024 unless told;
	---datagrams that come meanwhile are dropped with a log line. Does not yield.
	---@param id integer
	---@param n integer 0 = no limit
	function M.udp_limit(id, n)
		if math.type(n) ~= "integer" or n < 0 then
			require "skynet.misuse"("socket.udp_limit", 2, "number of callbacks", n)
		end
		local s = pool[id]
		if not s or s.kind ~= "udp" then
			require "skynet.misuse"("socket.udp_limit", 1, "id of a UDP socket", id)
		end
		s.most_running = n > 0 and n or math.maxinteger
	end

	---Send a datagram to an address as callbacks get it. Does not yield.
	---@type fun(id: integer, to: string, data: string): boolean
	M.sendto = driver.udp_send
	---The text of such an address: ip, port.
	---@type fun(addr: string): string, integer
	M.udp_address = driver.udp_address

	return M
end
