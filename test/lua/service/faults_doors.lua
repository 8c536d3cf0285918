-- One of each gate, and the debug console, for tests of failing system calls; every message is
-- echoed. Started with `doors` and a folder of certificates and a port for the gate in C, or as
-- one of the parts.
local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local netpack = require "skynet.netpack"
local wsgate = require "snax.wsgate"
local cgate = require "cgate"

local part, certs, port = ...
local parts = {}

-- Answers what a gate forwards of one connection.
local function agent(answer)
	skynet.register_protocol {
		name = "client",
		id = skynet.PTYPE_CLIENT,
		unpack = skynet.tostring,
		dispatch = function(fd, _, text)
			skynet.ignoreret()
			answer(fd, "echo " .. (text or ""))
		end,
	}
	skynet.dispatch("lua", function(_, _, command, gate, fd)
		if command == "exit" then
			skynet.exit()
		else
			skynet.call(gate, "lua", "forward", fd)
		end
	end)
end

function parts.agent()
	agent(function(fd, text) driver.send(fd, netpack.pack(text)) end)
end

function parts.wsagent()
	agent(function(fd, text) wsgate.send(fd, text, "text") end)
end

-- Watchdog of a gate whose connections have an agent each.
local function watch(gate_name, agent_name, conf, name)
	local gate
	local agents = {}
	local commands = {}
	function commands.open(fd)
		agents[fd] = skynet.newservice("faults_doors", agent_name)
		skynet.send(agents[fd], "lua", "forward", gate, fd)
	end
	local function gone(fd)
		if agents[fd] then
			skynet.send(agents[fd], "lua", "exit")
			agents[fd] = nil
		end
	end
	commands.close, commands.error = gone, gone
	skynet.dispatch("lua", function(_, _, _, verb, ...)
		if commands[verb] then
			commands[verb](...)
		end
	end)
	gate = skynet.newservice(gate_name)
	conf.address, conf.port, conf.watchdog, conf.linger = "127.0.0.1", 0, skynet.self(), 1
	local _, number = skynet.call(gate, "lua", "open", conf)
	skynet.error(("port %s %d"):format(name, number))
end

function parts.agents()
	watch("gate", "agent", {}, "agents")
end

function parts.tlsagents()
	watch("gate", "agent", { tls = { cert = certs .. "/server.pem", key = certs .. "/server.key" } }, "tlsagents")
end

function parts.wsagents()
	watch("wsgate", "wsagent", {}, "wsagents")
end

function parts.cgate()
	cgate(".cgate", ("127.0.0.1:%s 0 64"):format(port), function(text) return "echo " .. text end)
	skynet.error(("port cgate %s"):format(port))
end

function parts.doors()
	for _, name in ipairs { "agents", "tlsagents", "wsagents", "cgate" } do
		skynet.newservice("faults_doors", name, certs, port)
	end
	skynet.newservice("debug_console", 0)
	skynet.error "doors are open"
end

skynet.start(parts[part])
