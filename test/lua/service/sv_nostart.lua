-- A script that forgets to start.
require "skynet"
