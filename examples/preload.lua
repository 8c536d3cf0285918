-- preload: with `preload = root.."examples/preload.lua"` in the config this runs
-- in every Lua service before its script, with the service's name and arguments.
print("PRELOAD", ...)
