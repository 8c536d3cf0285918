-- oom_snaxuser: starts and uses services of the type oom_snax, for test_oom_snax.lua.

local skynet = require "skynet"
local snax = require "skynet.snax"
local serve = require "serve"

local command = {}

local function talk(service, ...)
	service.post.post(...)
	return service.req.echo(...)
end

local function finish(service, ok, ...)
	-- There may be no memory for it the first time.
	while not pcall(snax.kill, service) do
		skynet.sleep(1)
	end
	return ok and ... or error((...), 0)
end

function command.use(...)
	local service = snax.newservice("oom_snax", 1)
	return finish(service, pcall(talk, service, ...))
end

serve(command)
