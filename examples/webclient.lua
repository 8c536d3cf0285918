-- webclient URL: fetch a page, tell what came, and end the node.

local skynet = require "skynet"
require "skynet.manager"
local httpc = require "http.httpc"

local target = ...

-- With the names of an exchange of its own, on a host.
local function request()
	local scheme_and_host, path = target:match "^(%a+://[^/]+)(.*)$"
	local header = {}
	local status = httpc.get(scheme_and_host, path == "" and "/" or path, header)
	skynet.error("httpc.get", status, header["content-type"])
end

-- With everything that is usual on the web.
local function fetch()
	local r, err = httpc.fetch(target, { timeout = { total = 1000 } })
	if not r then
		return skynet.error("httpc.fetch", err)
	end
	skynet.error("httpc.fetch", r.status, r.url, #r.body)
end

-- Piece by piece.
local function stream()
	local r <close> = assert(httpc.fetch(target, { stream = true }))
	local pieces = 0
	for _ in r.read, r do
		pieces = pieces + 1
	end
	skynet.error("stream", pieces > 0)
end

skynet.start(function()
	if not target then
		skynet.error "usage: webclient URL"
	else
		for _, step in ipairs { request, fetch, stream } do
			local ok, err = pcall(step)
			if not ok then
				skynet.error(tostring(err))
			end
		end
	end
	skynet.abort()
end)
