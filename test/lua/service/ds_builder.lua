-- A builder of datasheets other than the test itself, for test_datasheet.

local builder = require "skynet.datasheet.builder"

require "serve"(builder)
