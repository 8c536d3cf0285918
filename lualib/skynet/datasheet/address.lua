-- skynet.datasheet.address: finds the service behind datasheets, which whoever
-- comes first starts. Owns its handle.

local service = require "skynet.service"

local address

---Yields the first time.
---@return integer handle
return function()
	address = address or service.new("datasheet", function()
		require "skynet.datasheet.service"
	end)
	return address
end
