-- Old name of skynet.db.redis.
return require "skynet.db.redis"
