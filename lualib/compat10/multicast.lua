-- Old name of skynet.multicast.
return require "skynet.multicast"
