-- A method that is no function.
accept.x = 1
