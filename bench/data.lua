-- Benchmarks of the data libraries, for bench.lua: each function takes its argument
-- from the command line and returns figures by name. Single service, no messages.

local skynet = require "skynet"

local NS = 1e9

-- Calls f count times; how often it could be called in a second.
local function per_second(count, f)
	collectgarbage()
	local start = skynet.hpc()
	for i = 1, count do f(i) end
	return count / ((skynet.hpc() - start) / NS)
end

local data = {}

-- A leaderboard: fill it, then change scores, ask for ranks, read the page around one.
function data.zset(members)
	members = members or 1000000
	local board = require "skynet.zset".new()
	local R = math.random
	local result = { add_per_s = per_second(members, function(i) board:add(i, R(1, 1 << 30)) end) }
	result.bytes_each = board:memory() / members
	local count = 300000
	result.update_per_s = per_second(count, function() board:add(R(members), R(1, 1 << 30)) end)
	result.rank_per_s = per_second(count, function() board:rank(R(members)) end)
	result.page_per_s = per_second(count // 10, function()
		local first = R(members)
		board:range(first, first + 19)
	end)
	return result
end

function data.snowflake(count)
	count = count or 3000000
	local g = require "skynet.snowflake".new { node = 1 }
	return { ids_per_s = per_second(count, function() g:next() end) }
end

function data.cron(count)
	count = count or 20000
	local cron = require "skynet.cron"
	local e, now = cron.parse "30 9 * * mon-fri", os.time()
	return {
		next_per_s = per_second(count, function(i) e:next(now + i * 3600) end),
		parse_per_s = per_second(count, function() cron.parse "*/5 8-18 * * mon-fri" end),
	}
end

-- Players that walk and see each other: about ten in range of each.
function data.aoi(players)
	players = players or 10000
	local size, range = math.sqrt(players / 10 * math.pi) * 30, 30
	local space = require "skynet.aoi".new { cell = range, margin = 3 }
	local R, places, list = math.random, {}, {}
	for i = 1, players do
		local x, y = R() * size, R() * size
		places[i] = { x, y }
		space:add(i, x, y, range)
	end
	space:update(list)
	local pairs_each = space:stat().pairs / players
	local rounds, events = 10, 0
	local moves = per_second(rounds, function()
		for i = 1, players do
			local p = places[i]
			p[1], p[2] = p[1] + R() * 2 - 1, p[2] + R() * 2 - 1
			space:move(i, p[1], p[2])
		end
		events = events + select(2, space:update(list))
	end)
	return {
		moves_per_s = moves * players, events_per_s = moves * events / rounds, pairs_each = pairs_each,
		bytes_each = space:stat().memory / players,
	}
end

-- The message that all serialisers get.
local PLAYER = {
	uid = 4711, name = "hero", alive = true, hp = 97.5,
	bag = { 12, 13, 500, 70000, 1 << 40 }, at = { x = 10.25, y = -3.5 }, note = ("n"):rep(64),
}

local function both(count, encode, decode)
	local bytes = encode(PLAYER)
	return {
		encode_per_s = per_second(count, function() encode(PLAYER) end),
		decode_per_s = per_second(count, function() decode(bytes) end),
		bytes = #bytes,
	}
end

function data.seri(count)
	return both(count or 500000, skynet.packstring, skynet.unpack)
end

function data.sproto(count)
	count = count or 500000
	local sproto = require "sproto"
	local sp = sproto.parse [[
		.At { x 0 : double  y 1 : double }
		.Player { uid 0 : integer  name 1 : string  alive 2 : boolean  hp 3 : double  bag 4 : *integer  at 5 : At
			note 6 : string }
	]]
	local result = both(count, function(t) return sp:encode("Player", t) end, function(s) return sp:decode("Player", s) end)
	local plain = sp:encode("Player", PLAYER)
	local packed = sproto.pack(plain)
	result.pack_per_s = per_second(count, function() sproto.pack(plain) end)
	result.unpack_per_s = per_second(count, function() sproto.unpack(packed) end)
	result.packed_bytes = #packed
	return result
end

-- A descriptor set by hand: no protoc is needed to run this.
local function player_schema()
	local function part(number, bytes) return string.char(number << 3 | 2, #bytes) .. bytes end
	local function field(name, number, kind, label, type_name)
		return part(2, part(1, name) .. string.char(3 << 3, number, 4 << 3, label or 1, 5 << 3, kind)
			.. (type_name and part(6, type_name) or ""))
	end
	local DOUBLE, INT64, BOOL, STRING, MESSAGE = 1, 3, 8, 9, 11
	local at = part(1, "At") .. field("x", 1, DOUBLE) .. field("y", 2, DOUBLE)
	local player = part(1, "Player") .. field("uid", 1, INT64) .. field("name", 2, STRING) .. field("alive", 3, BOOL)
		.. field("hp", 4, DOUBLE) .. field("bag", 5, INT64, 3) .. field("at", 6, MESSAGE, 1, ".At")
		.. field("note", 7, STRING)
	local function long(number, bytes)
		return string.char(number << 3 | 2, #bytes & 127 | 128, #bytes >> 7) .. bytes
	end
	return require "skynet.protobuf".load(long(1, part(12, "proto3") .. part(4, at) .. long(4, player)))
end

function data.protobuf(count)
	local schema = player_schema()
	return both(count or 500000, function(t) return schema:encode("Player", t) end,
		function(s) return schema:decode("Player", s) end)
end

function data.bson(count)
	local bson = require "bson"
	return both(count or 300000, bson.encode, bson.decode)
end

function data.cjson(count)
	local cjson = require "cjson"
	return both(count or 300000, cjson.encode, cjson.decode)
end

function data.crypt(count)
	count = count or 200000
	local crypt = require "skynet.crypt"
	local text, key = ("x"):rep(256), "12345678"
	local cipher, base64 = crypt.desencode(key, text), crypt.base64encode(text)
	return {
		sha1_per_s = per_second(count, function() crypt.sha1(text) end),
		hmac_sha256_per_s = per_second(count, function() crypt.hmac_sha256(key, text) end),
		des_encode_per_s = per_second(count, function() crypt.desencode(key, text) end),
		des_decode_per_s = per_second(count, function() crypt.desdecode(key, cipher) end),
		base64_encode_per_s = per_second(count, function() crypt.base64encode(text) end),
		base64_decode_per_s = per_second(count, function() crypt.base64decode(base64) end),
		md5_per_s = per_second(count, function() require "md5".sum(text) end),
		uuid_per_s = per_second(count, function() crypt.uuid_v4() end),
	}
end

return data
