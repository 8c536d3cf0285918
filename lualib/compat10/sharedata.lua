-- Old name of skynet.sharedata.
return require "skynet.sharedata"
