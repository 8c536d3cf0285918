-- The snax type of test_snax.

local skynet = require "skynet"
local snax = require "skynet.snax"
local started = {}
local cnt = 0
local posts = {}

helper_value = 11	-- a global of the type

local function add(n)
	cnt = cnt + n
	return cnt
end

function init(...)
	started.words = table.pack(...)
	if ... == "fail" then
		error "init fails as asked"
	end
end

function exit(word)
	if word == "refuse" then
		error "exit fails as asked"
	end
	if word then
		skynet.send(word, "lua", "snx exits")
	end
end

function accept.post(value)
	posts[#posts + 1] = value
end

function response.get(...)
	cnt = cnt + 1
	return ...
end

function response.count()
	return cnt
end

function response.add(n)
	return add(n)
end

function response.started()
	return started.words
end

function response.posts()
	return posts
end

function response.boom()
	error "boom as asked"
end

function response.sleep(ti)
	skynet.sleep(ti)
end

function response.self()
	return snax.self().handle, SERVICE_NAME, SERVICE_PATH, helper_value
end

-- The same name in both groups.
function accept.twin()
	cnt = cnt + 100
end

function response.twin()
	return "twin"
end

function response.leave()
	snax.exit()
end

function response.cluster()
	snax.enablecluster()
end

-- Kept by hotfix tests.
flag = "old"

function response.flag()
	return flag
end
