-- snax.gatetls: the TLS sessions of a gate's connections. Bytes of the peer come in as
-- blocks of the socket core, plaintext goes out as blocks; what anybody sends to a
-- connection comes back as an event (socketdriver.relay), is encrypted and sent.
--
-- Owns the sessions, not the sockets. Nothing here yields.

local driver = require "skynet.socketdriver"
local netpack = require "skynet.netpack"

local gatetls = {}

---@class snax.gatetls.connection
---@field tls userdata
---@field held string[]? what came before the connection was opened
---@type table<integer, snax.gatetls.connection>
local connections = {}

---The context of a listener. Raises when an option is wrong.
---@param options skynet.tls.options
---@return userdata
function gatetls.context(options)
	if type(options) ~= "table" then
		error("gate option 'tls' must be a table with cert and key, got " .. type(options), 0)
	end
	if not (options.cert or options.hosts) then
		error("gate option 'tls' needs cert and key", 0)
	end
	return require "skynet.tlscontext".new(options)
end

---Begin the handshake of a new connection.
---@param fd integer
---@param ctx userdata
function gatetls.begin(fd, ctx)
	connections[fd] = { tls = require "ltls.c".newtls("server", ctx), held = {} }
	driver.relay(fd, true)
	driver.start(fd)
end

---Does this connection use TLS?
---@param fd integer
---@return boolean
function gatetls.has(fd)
	return connections[fd] ~= nil
end

-- Send what the session wants to tell its peer.
local function flush(fd, c)
	local bytes = c.tls:write()
	if bytes ~= "" then
		driver.rawsend(fd, bytes)
	end
end

---Bytes of the peer during the handshake. Takes the block.
---@param fd integer
---@param block lightuserdata
---@param size integer
---@return boolean? # true when it is done, false when it goes on, nil when it failed
---@return string? # why
function gatetls.shake(fd, block, size)
	local c = connections[fd]
	local ok, out = pcall(c.tls.handshake, c.tls, block, size)
	driver.drop(block, size)
	if not ok then
		flush(fd, c)
		return nil, out
	end
	if out then
		driver.rawsend(fd, out)
	end
	return c.tls:finished()
end

-- Plaintext as a block, which is given: block, size. Or nothing, and what is wrong.
local function pull(fd, c, bytes, size)
	local ok, block, n, _, has_output, failure = pcall(c.tls.pull, c.tls, bytes, size)
	if not ok then
		flush(fd, c)
		return nil, 0, block
	end
	if has_output then
		local is_sent, err = pcall(flush, fd, c)
		failure = failure or not is_sent and err or nil
	end
	return block, n, failure
end

---Bytes of the peer behind the handshake. Takes the block. Before `open` they are put
---aside.
---@param fd integer
---@param block lightuserdata
---@param size integer
---@return lightuserdata? # plaintext, given
---@return integer # its size
---@return string? # what is wrong
function gatetls.receive(fd, block, size)
	local c = connections[fd]
	if c.held then
		c.held[#c.held + 1] = netpack.tostring(block, size)
		return nil, 0
	end
	local plain, n, why = pull(fd, c, block, size)
	driver.drop(block, size)
	return plain, n, why
end

---The connection is read from now on: what came before. As receive.
---@param fd integer
---@return lightuserdata?
---@return integer
---@return string?
function gatetls.open(fd)
	local c = connections[fd]
	if not (c and c.held) then
		return nil, 0
	end
	local bytes = table.concat(c.held)
	c.held = nil
	return pull(fd, c, bytes)
end

---What somebody has sent to the connection. Takes the block.
---@param fd integer
---@param block lightuserdata
---@param size integer
---@return string? # why it was not sent: then nothing else may be
function gatetls.send(fd, block, size)
	local c = connections[fd]
	local ok, bytes = true, nil
	if c then
		ok, bytes = pcall(c.tls.write, c.tls, block, size)
	end
	driver.drop(block, size)
	if not ok then
		return bytes
	elseif bytes then
		driver.rawsend(fd, bytes)
	end
end

---Tell the peer that nothing follows.
---@param fd integer
function gatetls.finish(fd)
	local c = connections[fd]
	if c then
		driver.rawsend(fd, c.tls:shutdown())
	end
end

---The connection is gone.
---@param fd integer
function gatetls.forget(fd)
	local c = connections[fd]
	if c then
		connections[fd] = nil
		c.tls:close()
	end
end

return gatetls
