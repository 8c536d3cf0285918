"""The config keys of snax."""

from harness import Node

GO = """
local skynet = require "skynet"
local snax = require "skynet.snax"
skynet.start(function()
	local ok, s = pcall(snax.newservice, "kind", 7)
	skynet.error("result", ok, ok and s.req.get() or s)
end)
"""
KIND = """
local known = known_to_clients or require "skynet"
local n
function init(v) n = v end
function response.get() return n, SERVICE_PATH end
"""


def node(config, files):
    return Node('start = "go"\n' + config,
                files={"svc/go.lua": GO, **files})


def test_without_the_key_snax_says_what_is_missing():
    with node("snax = nil\n", {}) as n:
        n.wait_for("result false .*please set snax in config file")


def test_pattern_in_a_folder():
    with node('snax = "./no/?.lua;./types/?.lua"\n', {"types/kind.lua": KIND}) as n:
        n.wait_for("result true 7")


def test_missing_type_names_the_files_tried():
    with node('snax = "./no/?.lua;./types/?.lua"\n', {}) as n:
        n.wait_for("result false .*no/kind.lua")
        n.wait_for("types/kind.lua")


def test_syntax_error_in_a_type_is_told():
    with node('snax = "./?.lua"\n', {"kind.lua": "function init("}) as n:
        n.wait_for(r"result false .*kind.lua:1:")


def test_snax_loader_replaces_the_search():
    loader = """
return function(path, name, env)
	return assert(loadfile("elsewhere/" .. name .. ".txt", "bt", env)), "elsewhere/?.txt"
end
"""
    # Clients search as ever: they get a copy.
    with node('snax = "./types/?.lua"\nsnax_loader = "./loader.lua"\n',
              {"loader.lua": loader, "elsewhere/kind.txt": KIND + "-- the copy that runs\n",
               "types/kind.lua": KIND}) as n:
        n.wait_for("result true 7")


def test_client_with_another_version_of_the_type_is_refused():
    loader = """
return function(path, name, env)
	return assert(loadfile("new/" .. name .. ".lua", "bt", env)), "new/?.lua"
end
"""
    with node('snax = "./old/?.lua"\nsnax_loader = "./loader.lua"\n',
              {"loader.lua": loader, "old/kind.lua": KIND,
               "new/kind.lua": "function accept.first() end\n" + KIND}) as n:
        n.wait_for("result false .*interface of snax type kind differs")


def test_interface_globals_come_from_the_configured_module():
    # `package` is what a service has and a client has not.
    kind = "if not package then known_to_clients() end\n" + KIND
    module = "return { known_to_clients = function() CALLS = (CALLS or 0) + 1 end }"
    config = 'snax = "./?.lua"\nlua_path = lua_path .. ";./?.lua"\n'
    with node(config + 'snax_interface_g = "my_g"\n', {"kind.lua": kind, "my_g.lua": module}) as n:
        n.wait_for("result true 7")
    with node(config, {"kind.lua": kind}) as n:
        n.wait_for("result false .*known_to_clients")
