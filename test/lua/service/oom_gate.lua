-- oom_gate WHAT [yield]: a gate as a user writes one, on snax.gateserver or, if WHAT is "ws",
-- snax.wsgateserver. It sends back what comes; each of its callbacks needs memory. With
-- "yield", `message` yields.

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local netpack = require "skynet.netpack"

local what, yields = ...
local is_ws = what == "ws"
local gate = require(is_ws and "snax.wsgateserver" or "snax.gateserver")

-- fd -> text, while it is open.
local open = {}
local handler = {}

function handler.connect(fd, addr)
	open[fd] = addr .. " is open"
	gate.openclient(fd)
end

function handler.message(fd, msg, sz)
	local text = netpack.tostring(msg, sz)
	if yields then
		skynet.yield()
	end
	if is_ws then
		require "snax.wsgate".send(fd, text, "text")
	else
		driver.send(fd, string.pack(">s2", text))
	end
end

function handler.disconnect(fd)
	local texts = { "connection", tostring(fd), "is gone" }
	assert(#table.concat(texts, " ") > 10)
	open[fd] = nil
end

function handler.error(_, text)
	assert(#(text .. " is what it was") > 10)
end

function handler.command(cmd)
	assert(cmd == "count", cmd)
	local n = 0
	for _ in pairs(open) do
		n = n + 1
	end
	return n
end

function handler.open(_, conf)
	return conf.address, conf.port
end

gate.start(handler)
