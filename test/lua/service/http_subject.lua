-- http_subject FOLDER [CERTS]: an HTTP server and client for peers that are not ours.
-- FOLDER has the files of /files/. With CERTS, a folder of make_certs.sh, it serves
-- https as well. Says the ports it listens on; `strict` is one with small limits.

local skynet = require "skynet"
local httpc = require "http.httpc"
local server = require "http.server"
local router = require "http.router"
local md5 = require "md5"

local folder, certs = ...
local app = router.new()

app:get("/hello", function(_, res)
	res:send(200, "hello\n", { ["content-type"] = "text/plain" })
end)

app:any("/echo", function(req, res)
	res:send(200, req:body(), {
		["content-type"] = "application/octet-stream",
		["x-method"] = req.method,
		["x-query"] = req.query,
	})
end)

-- The size and digest of a body that is never in memory as a whole.
app:post("/upload", function(req, res)
	req.limit = 1 << 30
	local size, digest = 0, ""
	for piece in req.read, req do
		size = size + #piece
		digest = md5.sumhexa(digest .. piece)
	end
	res:send(200, tostring(size))
end)

app:get("/stream/:n", function(req, res)
	res:start(200, { ["content-type"] = "text/plain" })
	for i = 1, tonumber(req.params.n) do
		res:write(i .. "\n")
	end
end)

app:get("/redirect/:n", function(req, res)
	local n = tonumber(req.params.n)
	res:redirect(n > 0 and "/redirect/" .. n - 1 or "/hello")
end)

app:get("/refuse", function(_, res) res:send(403, "no\n") end)
app:put("/refuse", function(_, res) res:send(403, "no\n") end)

app:get("/memory", function(_, res)
	collectgarbage()
	res:send(200, tostring(collectgarbage "count" * 1024 // 1))
end)

-- Our client at work: the body is the URL, x-* fields are options.
app:post("/fetch", function(req, res)
	local h = req.header
	local r, err = httpc.fetch(req:body(), {
		method = h["x-method"],
		proxy = h["x-proxy"],
		body = h["x-body"],
		gzip = h["x-gzip"] ~= "off",
		tls = certs and { ca = certs .. "/ca.pem" },
		header = h["x-range"] and { range = h["x-range"] },
		timeout = { header = 500, body = 500 },
	})
	if not r then
		return res:send(502, err)
	end
	res:send(200, r.body, {
		["x-status"] = r.status,
		["x-url"] = r.url,
		["x-coding"] = r.header["content-encoding"] or "none",
		["x-framing"] = r.header["transfer-encoding"] or "sized",
	})
end)

app:static("/files", folder)

local function say(name, s)
	skynet.error(string.format("%s on port %d", name, s.port))
end

skynet.start(function()
	say("plain", server.listen("127.0.0.1", 0, app))
	say("strict", server.listen("127.0.0.1", 0, app, {
		header_timeout = 100,
		body_timeout = 100,
		idle_timeout = 300,
		linger_timeout = 20,
		body_limit = 10000,
		header_lines = 20,
	}))
	if certs then
		say("secure", server.listen("127.0.0.1", 0, app, {
			tls = { cert = certs .. "/server.pem", key = certs .. "/server.key" },
		}))
	end
end)
