-- A method with a name that is no string.
accept[1] = function() end
