-- A method defined twice.
function accept.x() end
function accept.x() end
