-- abort: ends the node.

local skynet = require "skynet"
require "skynet.manager"

skynet.abort()
