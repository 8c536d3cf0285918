-- Allocations that fail while a C library is opened: it can be opened then, and nothing is left.
local allocfail = require "allocfail"
local test = require "testlib"

local native = allocfail.native
local MODES = { "retry", "once", "always" }
local FOLDER = package.cpath:match "([^;]*)/%?%.so"

-- File -> its libraries; of some, what has to be opened before.
local LIBRARIES = {
	skynet = {
		"skynet.aoi", "skynet.core", "skynet.crypt", "skynet.debugchannel", "skynet.dnscodec", "skynet.farewell",
		"skynet.gateinbox", "skynet.memory", "skynet.mongo.driver", "skynet.multicast.core",
		"skynet.netpack", "skynet.sharedata.core", "skynet.sharetable.core", "skynet.snowflake",
		"skynet.socketdriver", "skynet.socketinbox", "skynet.stm", "skynet.task", "skynet.task.coroutine",
		"skynet.wallclock", "skynet.zset",
	},
	bson = { "bson" },
	client = { "client.crypt", "client.socket" },
	http = { "http.codec", "http.file", "http.gzip" },
	kcp = { "kcp.core" },
	ltls = { "ltls.c", "ltls.init.c" },
	md5 = { "md5.core" },
	protobuf = { "protobuf.core" },
	sproto = { "sproto.core" },
	wscodec = { "wscodec" },
	cjson = { "cjson", "cjson.safe" },
	lpeg = { "lpeg" },
}

local function opener(file, name)
	return assert(package.loadlib(("%s/%s.so"):format(FOLDER, file), "luaopen_" .. name:gsub("%.", "_")))
end

local BEFORE = {
	["skynet.socketinbox"] = opener("skynet", "skynet.task"),
}
-- It says so.
local ONCE = { ["skynet.task"] = "is loaded already" }

require "ltls.init.c".constructor()

for file, names in pairs(LIBRARIES) do
	for _, name in ipairs(names) do
		local f = opener(file, name)
		test.case("opening " .. name, function()
			local function open(n, mode)
				local failed, first, second = native.open(n, mode, name, f, BEFORE[name])
				local where = ("allocation %d (%s): "):format(n, mode)
				test.ok(not first or failed and first:find "memory", where .. tostring(first))
				if first or not ONCE[name] then
					test.eq(second, nil, where)
				else
					test.ok(second:find(ONCE[name], 1, true), where .. second)
				end
				return failed
			end
			for n = 1, 3 do
				open(1000000, "once")
			end
			local bytes, descriptors = allocfail.usage()
			for _, mode in ipairs(MODES) do
				for n = 1, 10000 do
					local failed = open(n, mode)
					local is_settled, b, d = allocfail.settled(bytes, descriptors)
					test.ok(is_settled, ("allocation %d (%s): %d bytes, %d descriptors more than before"):format(n,
						mode, b - bytes, d - descriptors))
					if not failed then
						break
					end
				end
			end
		end)
	end
end

test.run()
