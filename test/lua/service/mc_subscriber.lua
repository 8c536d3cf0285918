-- A subscriber for test_multicast: notes what it gets, fails or hangs on demand.

local skynet = require "skynet"
local mc = require "skynet.multicast"
local serve = require "serve"

local got = {}
local channel
local command = {}

local behave = {
	fail = function() error "the subscriber fails on purpose" end,
	hang = function() skynet.wait {} end,
}

function command.subscribe(id, how)
	channel = mc.new {
		channel = id,
		dispatch = function(_, source, ...)
			got[#got + 1] = { source, ... }
			if how then
				behave[how]()
			end
		end,
	}
	channel:subscribe()
end

function command.unsubscribe()
	channel:unsubscribe()
end

function command.publish(id, ...)
	mc.new { channel = id }:publish(...)
end

function command.got()
	return got
end

function command.count()
	return #got
end

-- Die with messages of a channel in the mailbox; none of them was looked at.
function command.die_loaded(id, n)
	local core = require "skynet.multicast.core"
	for i = 1, n do
		core.deliver(core.pack(skynet.pack(i)), id, skynet.self(), { skynet.self() })
	end
	require "skynet.core".command "EXIT"
end

serve(command)
