-- A script that never calls skynet.start.

return 1
