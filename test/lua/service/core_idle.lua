-- A script that ends without installing anything that handles messages.
local _ = require "skynet"
