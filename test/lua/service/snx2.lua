-- A second snax type; uses what its top level may not rely on in a client.
local queue = require "skynet.queue"
local lock = queue()
local a, b = require "skynet.snax".nothing, helper_value

if helper_value then
	error "globals of another type are visible"
end

function response.locked(x)
	return lock(function() return x end)
end

function response.upvalues()
	return type(a), b
end

do
	local same = 1
	function response.one() return same end
end

do
	local same = 2
	function response.two() return same end
end
