-- The arena: starts the rooms, the watchdog with its gate, and the web server that hands
-- out the page.
--
--	browser -> wsgate -> agent (one a player) -> room (one a room) -> browsers
--
-- A player's messages go from the gate to his agent as they are; agents tell the room
-- what the player wants; the room sends one frame a tick straight to all its players.

local skynet = require "skynet"
local router = require "http.router"
local server = require "http.server"
local cjson = require "cjson"
local rules = require "rules"

skynet.start(function()
	local host = skynet.getenv "arena_host" or "127.0.0.1"
	local rooms = {}
	for _, room in ipairs(rules.rooms) do
		rooms[room.name] = skynet.newservice("room", room.name)
	end
	local watchdog = skynet.newservice "watchdog"
	local gate_port = skynet.call(watchdog, "lua", "start", {
		host = host,
		port = math.tointeger(skynet.getenv "arena_gate_port") or 8081,
		rooms = rooms,
	})

	local web = router.new()
	web:get("/config.json", function(_, res)
		res:set("cache-control", "no-store")
		res:set("content-type", "application/json")
		res:send(200, cjson.encode { port = gate_port })
	end)
	web:static("/", skynet.getenv "arena_www" or "examples/arena/www", { cache_control = "no-cache" })
	local page = server.listen(host, math.tointeger(skynet.getenv "arena_port") or 8080, web)
	skynet.error(string.format("The arena is open: http://%s:%d/", host, page.port))
end)
