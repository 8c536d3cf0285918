-- The loader: the first Lua code of every Lua service. The container calls it
-- with the whole launch argument, "NAME word ...", on the main Lua thread. It
-- finds the service's script through the templates of LUA_SERVICE, sets the
-- search paths, and runs the script with the words as arguments.
--
-- Globals it leaves: SERVICE_NAME, SERVICE_PATH, and a `require` that may be
-- used inside tasks. Globals it removes: LUA_PATH, LUA_CPATH, LUA_SERVICE,
-- LUA_PRELOAD. It must not yield.
--
-- It runs at every launch, so what takes long is done by the container.

local service = package.loaded["skynet.require"]

---@param main function the script
---@param folder string? where it is, up to the last slash
---@param is_own boolean a template such as dir/?/init.lua gives the service this folder
---@param ... string all words, the name first
local function start(main, folder, is_own, ...)
	SERVICE_NAME = ...
	SERVICE_PATH = folder
	-- Modules in a folder of its own come before all others.
	package.path, LUA_PATH = is_own and folder .. "?.lua;" .. LUA_PATH or LUA_PATH, nil
	package.cpath, LUA_CPATH = LUA_CPATH, nil
	LUA_SERVICE = nil

	local preload = LUA_PRELOAD
	if preload then
		LUA_PRELOAD = nil
		local chunk, why = loadfile(preload)
		if not chunk then
			error("preload: " .. why, 0)
		end
		chunk(...)
	end

	require = service.require

	main(select(2, ...))
end

start(service.script(..., LUA_SERVICE))
