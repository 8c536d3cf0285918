-- Helper of the service tests: one script, several behaviours.
--   sv_helper [mode] [words...]
-- mode: plain, exit (in start), raise (in start), slow (start waits for the
-- message `go`), mute (never answers debug commands), faulty (fails them).

local skynet = require "skynet"

local words = { ... }
local mode = words[1] or "plain"

local command = {}

function command.echo(...)
	return ...
end

function command.words()
	return words
end

function command.exit()
	skynet.exit()
end

function command.fail()
	error "as asked"
end

function command.call(...)
	return skynet.call(...)
end

function command.unique(...)
	return skynet.uniqueservice(...)
end

local go = {}
function command.go()
	skynet.wakeup(go)
	go.done = true
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		skynet.retpack(command[cmd](...))
	end)
	if mode == "exit" then
		skynet.exit()
	elseif mode == "raise" then
		error "start fails as asked"
	elseif mode == "slow" then
		if not go.done then
			skynet.wait(go)
		end
	elseif mode == "mute" then
		skynet.dispatch("debug", function()
			skynet.ignoreret()
		end)
	elseif mode == "faulty" then
		skynet.dispatch("debug", function()
			error "debug fails as asked"
		end)
	end
end)
