-- TLS, channels, name queries and UDP in services whose allocations fail, each in its
-- turn or every so many: what is asked for comes, or an error does; nothing else, nobody waits
-- for ever, and nothing is kept.

local skynet = require "skynet"
local socket = require "skynet.socket"
local tls = require "skynet.tls"
local certs = require "certs"
local channels = require "channels"
local oom = require "oom"
local sockets = require "sockets"
local test = require "testlib"

-- A peer waits so long for what may not come, 1/100 s.
local PATIENCE = 100
local HOST = "127.0.0.1"
-- Every so many allocations has its turn; all would take long.
local STEP = 2

local target, other

local function ask(...)
	return skynet.call(target, "lua", ...)
end

local function sweep(question)
	oom.sweep { handle = target, ask = question, step = STEP, slack = 128 }
end

local LINES = { "one", "two", ("x"):rep(20000), "three" }

test.case("a TLS server", function()
	local port = ask "tls_listen"
	local context = tls.context { ca = certs.path "ca.pem" }
	sweep(function()
		local c <close> = assert(tls.connect(HOST, port, { context = context, timeout = oom.patience(PATIENCE) }))
		local last
		for _, line in ipairs(LINES) do
			c:write(line .. "\n")
			last = c:readline("\n", oom.patience(PATIENCE))
			if last ~= line then
				return last, line
			end
		end
		return last, last
	end)
end)

test.case("a TLS client", function()
	local port = skynet.call(other, "lua", "tls_listen")
	sweep(function() return ask("tls_talk", port, LINES), LINES[#LINES] end)
end)

-- Each line "x" is answered with "+x", but "N x" with "N +x"; "close" ends the connection.
local function line_server()
	return channels.line_server {
		close = function() return "close" end,
		["1 one"] = function(id) socket.write(id, "1 +one\n") end,
		["2 two"] = function(id) socket.write(id, "2 +two\n") end,
	}
end

for name, how in pairs {
	["in order"] = {},
	["by session"] = { session = true },
	["with auth"] = { auth = true },
	["with a backup"] = { backup = true },
} do
	test.case("a channel " .. name, function()
		local s = line_server()
		ask("channel", name, s.port, how)
		local texts = how.session and { "1 one", "2 two" } or { "one", "two" }
		local want = how.session and { "+one", "+two" } or { "one", "two" }
		sweep(function()
			local answers = ask("request", name, texts)
			for i, answer in ipairs(answers) do
				if answer ~= want[i] then
					return answer, want[i]
				end
			end
			return answers, want
		end)
		channels.stop(s)
	end)
end

test.case("a channel that connects again and again", function()
	local s = line_server()
	ask("channel", "again", s.port, {})
	sweep(function()
		ask("request", "again", { "close" })
		return ask("request", "again", { "one" })[1], "one"
	end)
	channels.stop(s)
end)

test.case("a name query", function()
	local function answer(question)
		-- One record: the name of the question, A, IN, a minute, four bytes.
		return question:sub(1, 2) .. "\x81\x80\0\1\0\1\0\0\0\0" .. question:sub(13)
			.. "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\10\0\0\1"
	end
	local id
	id = socket.udp(function(question, from) socket.sendto(id, from, answer(question)) end, HOST, 0)
	local port = sockets.port(id)
	sweep(function() return ask("resolve", port, "some.example"), "10.0.0.1" end)
	socket.close(id)
end)

test.case("UDP", function()
	local port = ask "udp_listen"
	local sent, got = {}, nil
	local id = socket.udp_dial(HOST, port, function(text)
		if not sent[text] then
			oom.complain("a datagram that was never sent, of %d bytes", #text)
		end
		got = text
	end)
	local n = 0
	sweep(function()
		n = n + 1
		local text = n .. ("x"):rep(8000)
		sent[text] = true
		socket.write(id, text)
		-- One that comes late is no answer.
		return oom.await(function() return got == text and got end, 10), text
	end)
	socket.close(id)
end)

test.case("(clean-up)", certs.remove)

test.run(function()
	local folder = certs.make()
	target = oom.newservice("oom_net", folder)
	other = skynet.newservice("oom_net", folder)
end)
