-- Old name of skynet.db.mongo.
return require "skynet.db.mongo"
