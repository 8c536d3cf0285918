-- snax.gateserver: the frame of a gate, a service that accepts connections and
-- cuts what they send into packages of two length bytes plus payload.
--
-- Owns the listener, all accepted connections (closed when the service ends,
-- whatever ended it) and the queue of packages; a package belongs to the
-- handler from the moment `message` is called. It registers the protocol
-- `socket`, so skynet.socket can't be used in the same service.
--
-- Life of a connection: announced by `connect` (with TLS when the handshake is done),
-- read after openclient, ended by exactly one `disconnect`, which pairs with
-- `connect`. When the peer ended it, the socket stays writable until closeclient, or
-- `linger` later (snax.gatelinger).
--
-- Limits cost a well-behaved connection next to nothing: rates and silence are
-- counted in C while packages are cut (netpack.guard); here is one number per connection.

local skynet = require "skynet"
local netpack = require "skynet.netpack"
local driver = require "skynet.socketdriver"
local gatelag = require "snax.gatelag"
local gatelinger = require "snax.gatelinger"
local gatelistener = require "snax.gatelistener"
local gatesettings = require "snax.gatesettings"
local gatetls = require "snax.gatetls"
local notice = require "skynet.notice"
local NO_MEMORY = require "skynet.nomemory"

local traceback = debug.traceback
local xpcall = xpcall

local gateserver = {}

-- Lines about dropped packages in a second, and bytes of the package in one.
local MAX_DROP_LINES = 32
local MAX_DROP_TEXT = 1024
-- Lines about a handler that raised, in a second.
local MAX_FAILURE_LINES = 100

-- Packages cut but not yet dispatched; an object of netpack that frees itself. It gets its
-- limits when the gate is opened.
local queue = netpack.guard(nil, {}, {})
-- Of the last `open`.
local settings = gatesettings.new {}
-- Of the settings, for every package.
local max_pending, is_ordered
-- The context of the last `open` with TLS, or nil.
local tls_context
-- Whether there was one ever.
local is_raw = false

-- States of a connection. 0 or more: open, and so many calls of `message` go on. CLOSING:
-- our close or shutdown was requested, its CLOSE event is still to come. GONE:
-- `disconnect` was reported; the socket is still there to be written to. SHAKING: the
-- TLS handshake goes on, nobody was told of it. REFUSED: it failed, CLOSE is to come.
local CLOSING, GONE, SHAKING, REFUSED = -1, -2, -3, -4
-- fd -> state. An fd is never used twice.
---@type table<integer, integer>
local state = {}
-- fd -> "ip:port"; once it is announced in brief (netpack.brief)
---@type table<integer, integer|string>
local address = {}
-- Connections accepted and not yet reported gone.
local client_number = 0
-- In the ordered mode: fd -> { first, last, [2n - 1] = package, [2n] = its size } of those that
-- wait while `message` runs.
local waiting = {}
local handler
-- Those of the handler, for every package.
local on_message, is_direct

-- Reasons not to read a connection, and fd -> those that hold now.
local SLOW, FULL, UNOPENED, BEHIND = 1, 2, 4, 8
---@type table<integer, integer>
local held = {}

-- Runs when the VM is closed, be it by exit or by kill.
local finaliser = setmetatable({}, { __gc = function()
	local listener = gatelistener.id()
	if listener then
		driver.close(listener)
	end
	for fd in pairs(state) do
		driver.close(fd)
	end
end })

------------------------------------------------------------------ notices

-- The address of a connection for a line; becomes text only if the line is written, as most
-- of a flood are not.
local peer = setmetatable({ brief = false }, { __tostring = function(self)
	return self.brief and netpack.address(self.brief) or "a lost peer"
end })

-- Up to the next call.
local function peer_of(fd)
	peer.brief = address[fd] or false
	return peer
end

-- Say why a connection is refused, slowed down or ended, and what to do if that is wrong.
local function report(kind, fmt, ...)
	notice(kind, 1, "gateserver: " .. fmt, ...)
end

local function drop(fd, msg, sz)
	local text = netpack.tostring(msg, sz)
	if #text > MAX_DROP_TEXT then
		text = text:sub(1, MAX_DROP_TEXT) .. "..."
	end
	if not notice("drop", MAX_DROP_LINES, "Drop message from fd (%d) : %s", fd, text) then
		-- A peer may have sent a hundred thousand of them ahead.
		netpack.discard(queue, fd)
	end
end

-------------------------------------------------------------- connections

local function is_open(fd)
	local s = state[fd]
	return s and s >= 0
end

local function hold(fd, reason)
	local before = held[fd] or 0
	held[fd] = before | reason
	if before == 0 then
		driver.pause(fd)
	end
end

local function release(fd, reason)
	local rest = (held[fd] or 0) & ~reason
	if rest ~= 0 then
		held[fd] = rest
	elseif held[fd] then
		held[fd] = nil
		if is_open(fd) then
			driver.start(fd)
		end
	end
end

local function forget(fd)
	state[fd] = nil
	address[fd] = nil
	held[fd] = nil
	gatetls.forget(fd)
end

local function close_now(fd, after)
	driver.close(fd)
	if after then
		after(fd)
	end
end

-- With TLS, what was sent up to now is still on its way through the mailbox, where a
-- timeout of 0 queues behind it. Whatever the farewell fails at, the socket is closed.
local function close_socket(fd, after)
	if not gatetls.has(fd) then
		return close_now(fd, after)
	end
	skynet.timeout(0, function() gatetls.finish(fd) end)
	skynet.timeout(0, function() close_now(fd, after) end)
end

-- At once, and nothing more goes out: the peer must not take what it got for all there was.
-- Needs no memory.
local function cut_off(fd)
	driver.shutdown(fd)
	if is_open(fd) then
		state[fd] = CLOSING
	end
end

---Forget a connection and close it once its output is sent; at once if there is no memory for
---the farewell of TLS.
---@param fd integer unknown: no effect
function gateserver.closeclient(fd)
	local s = state[fd]
	if s == GONE then
		if not pcall(close_socket, fd, forget) then
			driver.shutdown(fd)
			forget(fd)
		end
		state[fd] = nil
		gatelinger.gone()
	elseif s and s >= 0 then
		netpack.route(queue, fd)
		if pcall(close_socket, fd) then
			state[fd] = CLOSING
		else
			cut_off(fd)
		end
	end
end

---From now on the packages of a connection go straight to a service, as messages of the
---class client with session fd, and `message` does not see them; `lost` is called when
---that service is gone. Cheaper than to pass on what `message` gets.
---@param fd integer closed: no effect
---@param service integer? its handle; nil = packages go to `message` again
---@param source integer? handle that the messages come from, default: this service
function gateserver.route(fd, service, source)
	if is_open(fd) then
		netpack.route(queue, fd, service, source)
	end
end

-- Connections whose `disconnect` found no memory, or goes on: its event comes once more.
local untold = {}

local function tell_gone(fd)
	if handler.disconnect then
		local ok, err = xpcall(handler.disconnect, traceback, fd)
		if not ok then
			if err ~= NO_MEMORY then
				untold[fd] = nil
			end
			error(err, 0)
		end
	end
	untold[fd] = nil
end

local function report_gone(fd)
	local s = state[fd]
	if s <= SHAKING then
		client_number = client_number - 1
		forget(fd)
		return
	end
	untold[fd] = true
	client_number = client_number - 1
	if s == CLOSING then
		forget(fd)
	else
		state[fd] = GONE
		if not pcall(gatelinger.add, fd, settings.linger) then
			gateserver.closeclient(fd)
		end
	end
	tell_gone(fd)
end

local function announce(fd, addr)
	address[fd] = netpack.brief(addr)
	local ok, err = xpcall(handler.connect, debug.traceback, fd, addr)
	if not ok then
		gateserver.closeclient(fd)
		error(err, 0)
	end
end

----------------------------------------------------------------- silence

local function end_silent(fd, has_spoken)
	if state[fd] == SHAKING then
		driver.shutdown(fd)
	elseif is_open(fd) then
		local name = has_spoken and "idle_timeout" or "first_timeout"
		report(name, "close silent connection %d of %s: no %spackage in %d/100 s; raise %s if "
			.. "that is meant", fd, peer_of(fd), has_spoken and "" or "first ", settings[name], name)
		gateserver.closeclient(fd)
	end
end

local is_looking = false

local look

-- Look at time limits in so much time, or sooner.
local function look_later(delay)
	local period = settings.look_period
	if is_looking or not period then
		return
	end
	skynet.timeout(math.max(math.min(delay, period), settings.look_min), look)
	is_looking = true
end

-- What fails at one connection, or for want of memory, does not end the looking.
function look()
	is_looking = false
	local ok, again, silent = pcall(netpack.sweep, queue)
	if not ok then
		again, silent = 0, {}
	end
	for i = 1, #silent, 2 do
		local ended, err = pcall(end_silent, silent[i], silent[i + 1])
		if not ended then
			gateserver.closeclient(silent[i])
			pcall(skynet.error, err)
		end
	end
	if again >= 0 then
		look_later(again)
	end
end

---------------------------------------------------------------- packages

-- Too many packages wait for `message`: the peer has to wait, too.
local function limit_pending(fd, n)
	if n >= max_pending and (held[fd] or 0) & FULL == 0 then
		hold(fd, FULL)
		report("pending", "stop reading %d of %s while %d packages wait (max_pending)", fd,
			peer_of(fd), n)
	end
end

local function ease_pending(fd, n)
	if held[fd] and n <= max_pending // 2 then
		release(fd, FULL)
	end
end

-- Call the handler, which may yield or raise. A package that it has no memory for is lost:
-- its connection goes no further, as the next ones may depend on it.
local function deliver(fd, n, msg, sz)
	state[fd] = n + 1
	if n + 1 >= max_pending then
		-- Without memory, the next one asks again.
		pcall(limit_pending, fd, n + 1)
	end
	local ok, err = xpcall(on_message, traceback, fd, msg, sz)
	if err == NO_MEMORY then
		cut_off(fd)
	end
	n = state[fd]
	if n and n > 0 then
		state[fd] = n - 1
		if held[fd] and not waiting[fd] then
			ease_pending(fd, n - 1)
		end
	end
	if not ok then
		notice("message", MAX_FAILURE_LINES, "gateserver: message from %d of %s: %s", fd,
			peer_of(fd), err)
	end
end

local function put_aside(queued, msg, sz)
	local last = queued.last
	queued[last + 1], queued[last + 2] = msg, sz
	queued.last = last + 2
end

local function begin_waiting(fd, msg, sz)
	local queued = { msg, sz, first = 1, last = 2 }
	waiting[fd] = queued
	return queued
end

-- There was no memory to hand a package on.
local function give_up(fd, msg, sz, err)
	driver.drop(msg, sz)
	cut_off(fd)
	report("lost", "end %d of %s: %s", fd, peer_of(fd), err)
end

local function deliver_waiting(fd, queued)
	while queued.first < queued.last do
		local first = queued.first
		-- From here to `message` nothing fails.
		netpack.room()
		local msg, sz = queued[first], queued[first + 1]
		queued[first], queued[first + 1] = nil, nil
		queued.first = first + 2
		if is_open(fd) then
			deliver(fd, state[fd], msg, sz)
		else
			drop(fd, msg, sz)
		end
		if held[fd] then
			ease_pending(fd, (queued.last - queued.first + 1) // 2)
		end
	end
end

-- One package after the other, although `message` may yield.
local function deliver_ordered(fd, msg, sz)
	local queued = waiting[fd]
	if queued then
		local ok, err = pcall(put_aside, queued, msg, sz)
		if not ok then
			return give_up(fd, msg, sz, err)
		end
		return limit_pending(fd, (queued.last - queued.first + 1) // 2)
	end
	local ok, err
	ok, queued = pcall(begin_waiting, fd, msg, sz)
	if not ok then
		return give_up(fd, msg, sz, queued)
	end
	ok, err = pcall(deliver_waiting, fd, queued)
	waiting[fd] = nil
	if not ok then
		cut_off(fd)
		for i = queued.first, queued.last, 2 do
			driver.drop(queued[i], queued[i + 1])
		end
		error(err, 0)
	end
end

local event = {}

local function dispatch_package(fd, msg, sz)
	local n = state[fd]
	if not n or n < 0 then
		drop(fd, msg, sz)
	elseif is_direct then
		on_message(fd, msg, sz)
	elseif is_ordered then
		deliver_ordered(fd, msg, sz)
	else
		deliver(fd, n, msg, sz)
	end
end

-- Whose package is being dispatched.
local current

local function dispatch_all()
	local fd, msg, sz = netpack.pop(queue)
	while fd do
		current = fd
		dispatch_package(fd, msg, sz)
		fd, msg, sz = netpack.pop(queue)
	end
end

-- Dispatch what is queued. Should `message` yield, the fork that was made before it goes
-- on with the rest.
local function dispatch_queue()
	if not is_direct then
		skynet.fork(netpack.dispatch, queue, dispatch_queue)
		return dispatch_all()
	end
	local ok, err = pcall(dispatch_all)
	if not ok then
		-- Its other packages may be queued.
		cut_off(current)
		error(err, 0)
	end
end

event.more = dispatch_queue

-- Names of the limits that netpack.guard tells by number.
local RATES = { "package_rate", "byte_rate", "address_package_rate", "address_byte_rate" }

local end_slow_later

-- The time to wait is over, unless more has come meanwhile.
local function end_slow(fd)
	if not is_open(fd) then
		return
	end
	local wait = netpack.wait(queue, fd)
	-- Without memory, better too early than never.
	if wait <= 0 or not pcall(end_slow_later, fd, wait) then
		release(fd, SLOW)
	end
end

function end_slow_later(fd, wait)
	skynet.timeout(wait, function() end_slow(fd) end)
end

-- The packages that have come are dispatched; the next ones have to wait.
function event.slow(fd, wait, why)
	if is_open(fd) and (held[fd] or 0) & SLOW == 0 then
		local name = RATES[why]
		local closes = settings.rate_policy == "close"
		report("rate", "%s %d of %s: it sends more than its %s of %d per second; raise it if that "
			.. "is meant", closes and "close" or "slow down", fd, peer_of(fd), name, settings[name])
		if closes then
			gateserver.closeclient(fd)
		else
			end_slow_later(fd, wait)
			hold(fd, SLOW)
		end
	end
	dispatch_queue()
end

---The service that gets the packages of a connection lags behind (gatelag.is_behind): the
---connection is not read until that has caught up.
---@param fd integer unknown or closed: no effect
---@param service integer|string
function gateserver.rest(fd, service)
	if is_open(fd) and (held[fd] or 0) & BEHIND == 0 then
		report("behind", "stop reading %d of %s while more than %d bytes wait for %s (agent_limit)", fd,
			peer_of(fd), settings.agent_limit, skynet.address(service))
		gatelag.wait(fd, service, function() release(fd, BEHIND) end)
		hold(fd, BEHIND)
	end
end

event.lag = gateserver.rest

-- What came for it meanwhile is lost as well.
function event.lost(fd, service)
	if is_open(fd) and handler.lost then
		handler.lost(fd, service)
	end
end

function event.huge(fd, size)
	if is_open(fd) then
		report("huge", "close %d of %s: a package of %d bytes is too large; raise maxpackage (%d) if "
			.. "that is meant", fd, peer_of(fd), size, settings.maxpackage)
		-- Behind the packages that came before it.
		skynet.fork(gateserver.closeclient, fd)
	end
	dispatch_queue()
end

--------------------------------------------------------------------- TLS

local function fail_tls(fd, why)
	if not is_open(fd) then
		return
	end
	gateserver.closeclient(fd)
	report("tls", "end %d of %s: %s", fd, peer_of(fd), why)
end

-- What came, as a message or as netpack.feed tells it. No event has more than three values.
local function dispatch(_, _, kind, a, b, c)
	if kind == "data" then
		dispatch_package(a, b, c)
	elseif kind then
		event[kind](a, b, c)
	end
end

-- Plaintext of a connection, or what is wrong with it.
local function take_plain(fd, block, size, why)
	if block then
		-- Behind what came before it.
		if why and not pcall(skynet.fork, fail_tls, fd, why) then
			driver.drop(block, size)
			return fail_tls(fd, why)
		end
		dispatch(nil, nil, netpack.feed(queue, fd, block, size))
	elseif why then
		fail_tls(fd, why)
	end
end

local function fail_handshake(fd, fmt, ...)
	state[fd] = REFUSED
	report("handshake", "TLS handshake with %s " .. fmt, peer_of(fd), ...)
end

local function shake(fd, block, size)
	local done, why = gatetls.shake(fd, block, size)
	if done then
		hold(fd, UNOPENED)
		state[fd] = 0
		announce(fd, address[fd])
	elseif why then
		driver.close(fd)
		fail_handshake(fd, "failed: %s", why)
	end
end

local function begin_tls(fd)
	gatetls.begin(fd, tls_context)
	if settings.handshake_timeout > 0 then
		skynet.timeout(settings.handshake_timeout, function()
			if state[fd] == SHAKING then
				driver.shutdown(fd)
				fail_handshake(fd, "takes too long; raise handshake_timeout (%d/100 s) if that is meant",
					settings.handshake_timeout)
			end
		end)
	end
	state[fd] = SHAKING
end

-- Bytes as they came, when the gate was last opened with TLS.
function event.raw(fd, block, size)
	if not gatetls.has(fd) then
		dispatch(nil, nil, netpack.feed(queue, fd, block, size))
	elseif state[fd] == SHAKING then
		shake(fd, block, size)
	elseif state[fd] == REFUSED then
		driver.drop(block, size)
	else
		take_plain(fd, gatetls.receive(fd, block, size))
	end
end

-- What somebody has sent to a connection with TLS. The rest would make no sense without it.
function event.send(fd, block, size)
	local why = gatetls.send(fd, block, size)
	local s = state[fd]
	if why and s and (s >= 0 or s == GONE) then
		cut_off(fd)
		report("send", "end %d of %s: %d bytes cannot be encrypted: %s", fd, peer_of(fd), size, why)
	end
end

local function take_opened(fd)
	take_plain(fd, gatetls.open(fd))
end

-- Not from within openclient, whose caller may not be ready.
local function open_tls(fd)
	local ok, err = pcall(take_opened, fd)
	if not ok then
		cut_off(fd)
		error(err, 0)
	end
end

---Start reading a connection that was announced by `connect`.
---@param fd integer unknown or closed: no effect
function gateserver.openclient(fd)
	if not is_open(fd) then
		return
	elseif not held[fd] then
		driver.start(fd)
	elseif held[fd] & UNOPENED ~= 0 then
		skynet.fork(open_tls, fd)
		release(fd, UNOPENED)
	end
end

------------------------------------------------------------------ events

function event.open(fd, addr)
	if client_number >= settings.maxclient then
		report("full", "refuse %s, %d clients are connected; raise maxclient if that is meant", addr,
			client_number)
		driver.shutdown(fd)
		return
	end
	address[fd] = addr
	-- Counted together with what its end is told by.
	state[fd] = REFUSED
	client_number = client_number + 1
	look_later(settings.look_period)
	if tls_context then
		begin_tls(fd)
	else
		state[fd] = 0
		announce(fd, addr)
	end
end

function event.close(fd, is_cut)
	local s = state[fd]
	if is_cut and s and s >= 0 then
		report("cut", "%d of %s ended within a package", fd, peer_of(fd))
	elseif s == SHAKING then
		driver.close(fd)
		fail_handshake(fd, "failed: the peer closed the connection")
	end
	if s and s ~= GONE then
		report_gone(fd)
	elseif untold[fd] then
		tell_gone(fd)
	elseif not s then
		address[fd] = nil
		gatelistener.closed(fd)
	end
end

function event.error(fd, text)
	if gatelistener.failed(fd, text) then
		gatelinger.make_room()
		return
	end
	local s = state[fd]
	driver.shutdown(fd)
	if s == SHAKING then
		fail_handshake(fd, "failed: %s", text)
	elseif s and s ~= REFUSED then
		if s ~= GONE then
			state[fd] = CLOSING
			report("error", "%d of %s: %s", fd, peer_of(fd), text)
		end
		if handler.error then
			handler.error(fd, text)
		end
		if s == GONE then
			gatelinger.gone()
			forget(fd) -- no CLOSE will follow
		end
	end
	-- Without memory, packages of it may have stayed.
	dispatch_queue()
end

function event.warning(fd, kib)
	if handler.warning and (state[fd] or REFUSED) > SHAKING then
		handler.warning(fd, kib)
	end
end

event.init = gatelistener.bound

---------------------------------------------------------------- settings

---@class gate.conf see doc/reference/gate.md for the defaults; 0 = no limit
---@field address string? default 0.0.0.0
---@field port integer
---@field maxclient integer?
---@field nodelay boolean?
---@field backlog integer?
---@field tls skynet.tls.options? encrypt; with cert and key
---@field handshake_timeout integer? 1/100 s for the TLS handshake
---@field maxpackage integer? bytes; a larger package closes its connection
---@field linger integer? 1/100 s until a connection that the peer closed is closed here
---@field max_linger integer? such connections that stay at a time
---@field ordered boolean? packages of a connection wait while `message` yields
---@field max_pending integer? packages of a connection that may wait for `message`
---@field agent_limit integer? bytes that may wait for the service that packages are handed on to
---@field first_timeout integer? 1/100 s a connection may wait with its first package
---@field idle_timeout integer? 1/100 s between packages
---@field rate_policy "delay"|"close"|nil
---@field package_rate integer? per connection and second, with package_burst
---@field byte_rate integer? with byte_burst
---@field address_package_rate integer? per address, with address_package_burst
---@field address_byte_rate integer? with address_byte_burst

-- See snax.gatelistener.
---@param conf gate.conf
local function prepare(conf)
	local s = gatesettings.new(conf)
	local ctx = conf.tls and gatetls.context(conf.tls)
	local limits, near = gatesettings.of_guard(conf, s)
	-- Once there were sessions, bytes always come as they are.
	limits.raw = ctx ~= nil or is_raw
	return gatesettings.of_listener(conf, s), function()
		settings = s
		max_pending, is_ordered = s.max_pending, s.ordered
		tls_context = ctx
		is_raw = limits.raw
		netpack.guard(queue, limits, near)
		gatelag.set_limit(s.agent_limit)
		gatelinger.set(s.max_linger, gateserver.closeclient)
	end
end

---@class gate.handler
---@field connect fun(fd: integer, addr: string)
---@field message fun(fd: integer, msg: lightuserdata, sz: integer) owns msg
---@field lost (fun(fd: integer, service: integer))? packages were routed to it, and it is gone
---@field disconnect fun(fd: integer)?
---@field error fun(fd: integer, text: string)?
---@field warning fun(fd: integer, kib: integer)?
---@field open (fun(source: integer, conf: gate.conf): ...)?
---@field command (fun(cmd: string, source: integer, ...): ...)?
---@field embed boolean? the caller starts the service
---@field direct boolean? `message` neither yields nor raises, which makes it cheaper

---Turn the service into a gate. Starts it, unless handler.embed is set.
---@param h gate.handler
function gateserver.start(h)
	assert(type(h) == "table", "gateserver.start needs a table of handlers")
	assert(h.connect, "gateserver needs handler.connect")
	assert(h.message, "gateserver needs handler.message")
	handler = h
	on_message, is_direct = h.message, h.direct
	gateserver._finaliser = finaliser
	skynet.register_protocol {
		name = "socket",
		id = skynet.PTYPE_SOCKET,
		unpack = netpack.receiver(queue),
		dispatch = dispatch,
	}
	gatelistener.start { name = "gateserver", handler = h, prepare = prepare }
end

return gateserver
