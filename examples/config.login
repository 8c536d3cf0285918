-- The login example: ./skynet examples/config.login, then in a second terminal
-- 3rd/lua/lua examples/login/client.lua
include "config.path"

thread = 8
logger = nil
harbor = 0
start = "main"
bootstrap = "snlua bootstrap"
luaservice = root.."service/?.lua;"..root.."examples/login/?.lua"

login_port = 8001
gate_port = 8888
