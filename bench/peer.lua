-- The other side of the message benchmarks: answers, counts, or calls.

local skynet = require "skynet"

local seen, want, done = 0, nil, nil

local command = {}

function command.count()
	seen = seen + 1
	if done and seen >= want then
		done(true, seen)
		done = nil
	end
end

function command.await(total)
	want = total
	if seen >= want then
		skynet.retpack(seen)
	else
		done = skynet.response()
	end
end

function command.echo(value)
	skynet.retpack(value)
end

function command.call(addr, times)
	for i = 1, times do
		skynet.call(addr, "lua", "echo", i)
	end
	skynet.retpack(times)
end

function command.flood(addr, times)
	for _ = 1, times do
		skynet.send(addr, "lua", "count")
	end
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		command[cmd](...)
	end)
end)
