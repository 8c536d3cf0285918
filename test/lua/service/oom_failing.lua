-- oom_failing: its start function raises.
require "skynet".start(function() error "on purpose" end)
