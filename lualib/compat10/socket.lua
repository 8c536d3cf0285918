-- Old name of skynet.socket.
return require "skynet.socket"
