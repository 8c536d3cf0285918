-- webserver [PORT [FOLDER]]: a small web service with http.server, port 8002: a counter
-- for each name, and the files of a folder.

local skynet = require "skynet"
local router = require "http.router"
local server = require "http.server"

local port, folder = ...
local counters = {}
local app = router.new()

app:use(function(req, res, next)
	res:set("cache-control", "no-store")
	next()
	skynet.error(string.format("%s %s %s -> %d", req.peer, req.method, req.url, res.status_sent))
end)

app:get("/counter/:name", function(req, res)
	res:send(200, (counters[req.params.name] or 0) .. "\n")
end)

app:post("/counter/:name", function(req, res)
	local name = req.params.name
	local step = math.tointeger(tonumber(req:body(20)))
	if not step then
		return res:send(400, "the body must be an integer\n")
	end
	counters[name] = (counters[name] or 0) + step
	res:send(200, counters[name] .. "\n")
end)

app:static("/", folder or "examples")

skynet.start(function()
	local s = server.listen("127.0.0.1", math.tointeger(tonumber(port)) or 8002, app)
	skynet.error("web server on port " .. s.port)
end)
