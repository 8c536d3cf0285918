-- Old name of skynet.snax.
return require "skynet.snax"
