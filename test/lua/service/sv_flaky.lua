-- Fails to start until the environment says otherwise.
local skynet = require "skynet"

skynet.start(function()
	skynet.sleep(1)
	if not skynet.getenv "sv_flaky_works" then
		error "not yet"
	end
end)
