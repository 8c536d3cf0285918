-- Old name of skynet.datacenter.
return require "skynet.datacenter"
