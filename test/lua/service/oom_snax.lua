-- oom_snax: a snax type for test_oom_snax.lua.

local skynet = require "skynet"

local version = 0
local posted

function init(n)
	version = n
end

function accept.post(value)
	posted = value
end

function response.posted()
	return posted
end

function response.echo(...)
	skynet.yield()
	return ...
end

function response.one()
	return version
end

function response.two()
	return version
end

function response.boom()
	error "on purpose"
end
