-- injectlaunch: for the debug console, `inject :00000003 examples/injectlaunch.lua`:
-- makes the launcher log the messages of every new service; a second injection
-- takes that back.

if not _P then
	print "Inject this file into the launcher: inject ADDRESS examples/injectlaunch.lua"
	return
end

local command = _P.lua.command

if command.RAWLAUNCH then
	command.LAUNCH, command.RAWLAUNCH = command.RAWLAUNCH, nil
	print "restore command.LAUNCH"
else
	command.RAWLAUNCH = command.LAUNCH
	command.LAUNCH = command.LOGLAUNCH
	print "replace command.LAUNCH"
end
