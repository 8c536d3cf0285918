-- Old name of skynet.mqueue.
return require "skynet.mqueue"
