-- certs: the certificates of test/lib/make_certs.sh in a folder of their own.

local certs = {}

local dir

local function run(command)
	assert(os.execute(command), command)
end

-- Where this file is: the script is beside it.
local function script()
	return (debug.getinfo(1, "S").source:match "^@(.*)%.lua$"):gsub("certs$", "make_certs.sh")
end

---Make them.
---@return string folder where they are
function certs.make()
	dir = os.tmpname()
	os.remove(dir)
	run("mkdir -m 700 " .. dir)
	run(script() .. " " .. dir)
	return dir
end

---Remove them.
function certs.remove()
	run("rm -r " .. dir)
end

---The file of a name such as "ca.pem".
function certs.path(name)
	return dir .. "/" .. name
end

---Its text.
function certs.text(name)
	local f <close> = assert(io.open(certs.path(name)))
	return f:read "a"
end

return certs
