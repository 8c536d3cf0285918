-- The loader: the first Lua code of every Lua service. The container calls it
-- with the whole launch argument, "NAME word ...", on the main Lua thread. It
-- finds the service's script through the templates of LUA_SERVICE, sets the
-- search paths, and runs the script with the words as arguments.
--
-- Globals it leaves: SERVICE_NAME, SERVICE_PATH, and a `require` that may be
-- used inside tasks. Globals it removes: LUA_PATH, LUA_CPATH, LUA_SERVICE,
-- LUA_PRELOAD. It must not yield.

---Load the script of a service: the first candidate that loads.
---@param name string service name, put in place of every `?`
---@param templates string file name templates separated by `;`
---@return function chunk, string template, string filename
local function find_script(name, templates)
	-- The first file that exists, which the process remembers together with its
	-- template, nearly always loads.
	local known, its_template = package.searchpath(name, templates, "")
	local main = known and its_template and loadfile(known)
	if main then
		return main, its_template, known
	end
	local messages = {}
	local replacement = name:gsub("%%", "%%%%")
	for template in templates:gmatch("[^;]+") do
		local filename = template:gsub("?", replacement)
		local chunk, message = loadfile(filename)
		if chunk then
			return chunk, template, filename
		end
		messages[#messages + 1] = message
	end
	error(table.concat(messages, "\n"), 0)
end

local words = {}
for word in string.gmatch(..., "%S+") do
	words[#words + 1] = word
end
SERVICE_NAME = words[1] or error("a Lua service needs the name of a script", 0)

local main, template, filename = find_script(SERVICE_NAME, LUA_SERVICE)

package.path, LUA_PATH = LUA_PATH, nil
package.cpath, LUA_CPATH = LUA_CPATH, nil
LUA_SERVICE = nil

-- A template such as dir/?/init.lua gives the service a folder of its own,
-- whose modules come before all others.
SERVICE_PATH = filename:match("^.*/")
if template:match("%?.*/[^?/]*$") then
	package.path = SERVICE_PATH .. "?.lua;" .. package.path
end

local preload = LUA_PRELOAD
if preload then
	LUA_PRELOAD = nil
	assert(loadfile(preload))(table.unpack(words))
end

require = require("skynet.require").require

main(table.unpack(words, 2))
