-- Allocations that fail in the C modules that handle what comes from the network.
local skynet = require "skynet"
local core = require "skynet.core"
local netpack = require "skynet.netpack"
local driver = require "skynet.socketdriver"
local allocfail = require "allocfail"
local test = require "testlib"

allocfail.case("netpack.pack gives its block or nothing", {
	run = function() return netpack.pack(("x"):rep(100)) end,
	check = function(msg, size)
		test.eq(netpack.tostring(msg, size), "\0\100" .. ("x"):rep(100))
	end,
})

allocfail.case("netpack.tostring frees its block once", {
	make = function() return netpack.pack(("x"):rep(100)) end,
	run = function(msg, size) return netpack.tostring(msg, size) end,
	check = function(_, _, text) test.eq(#text, 102) end,
})

test.run()
