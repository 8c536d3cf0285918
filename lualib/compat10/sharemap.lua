-- Old name of skynet.sharemap.
return require "skynet.sharemap"
