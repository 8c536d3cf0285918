-- http.router: which function serves a request, by method and path. A path pattern is
-- made of segments: `:name` matches one and `*name` at the end matches the rest; both
-- are found, percent-decoded, in req.params. A fixed segment goes before a `:name`,
-- that before a `*name`. Owns its tree of routes.

local request = require "http.request"
local url = require "http.url"

---@class http.router
local router = {}
router.__index = router

---@alias http.handler fun(req: http.request, res: http.response)
---@alias http.middleware fun(req: http.request, res: http.response, next: fun())

---@return http.router
function router.new()
	return setmetatable({ root = { fixed = {} }, middleware = {} }, router)
end

-- The segments of a path: "/a/b" has a and b, "/a/" has a and "".
local function segments(path)
	local list = {}
	for segment in path:gmatch "/([^/]*)" do
		list[#list + 1] = segment
	end
	return list
end

local function child(node, segment, last, pattern)
	local kind, name = segment:match "^([:*])(.*)$"
	if not kind then
		local key = url.decode((segment:gsub("%+", "%%2B")))
		node.fixed[key] = node.fixed[key] or { fixed = {} }
		return node.fixed[key]
	elseif name == "" or kind == "*" and not last then
		error("invalid segment '" .. segment .. "' in the route " .. pattern, 4)
	end
	local slot = kind == ":" and "any" or "rest"
	local next_node = node[slot] or { fixed = {}, name = name }
	if next_node.name ~= name then
		error(string.format("the route %s calls '%s' what another one calls '%s'", pattern, name,
			next_node.name), 4)
	end
	node[slot] = next_node
	return next_node
end

---Add a route. HEAD is served by GET when it has no route of its own.
---@param method string such as "GET", or "*" for any
---@param pattern string
---@param handler http.handler
function router:route(method, pattern, handler)
	if type(pattern) ~= "string" then
		error("a route is a string such as \"/a/:b\", not a " .. type(pattern), 3)
	elseif pattern:sub(1, 1) ~= "/" then
		error("a route begins with a slash: " .. pattern, 3)
	elseif type(handler) ~= "function" then
		error("the route " .. pattern .. " needs a function", 3)
	end
	local node = self.root
	local list = segments(pattern)
	for i, segment in ipairs(list) do
		node = child(node, segment, i == #list, pattern)
	end
	node.methods = node.methods or {}
	if node.methods[method] then
		error(string.format("the route %s %s is there already", method, pattern), 3)
	end
	node.methods[method] = handler
end

for _, method in ipairs { "get", "post", "put", "delete", "patch", "head", "options" } do
	router[method] = function(self, pattern, handler)
		router.route(self, method:upper(), pattern, handler)
	end
end

---Handle all methods that have no handler of their own for this pattern.
---@param pattern string as for route
---@param handler http.handler
function router:any(pattern, handler)
	router.route(self, "*", pattern, handler)
end

---Run a function around every request whose path is `prefix` or below it; those added
---first are outermost. It calls next() to go on, or answers itself.
---@param prefix string|http.middleware without a prefix: for all requests
---@param f http.middleware?
function router:use(prefix, f)
	if not f then
		prefix, f = "/", prefix --[[@as http.middleware]]
	end
	if type(f) ~= "function" then
		error("router:use needs a function", 2)
	end
	if type(prefix) ~= "string" then
		error("router:use needs a string as the prefix, not a " .. type(prefix), 2)
	end
	local depth = segments(prefix --[[@as string]])
	if depth[#depth] == "" then
		depth[#depth] = nil
	end
	self.middleware[#self.middleware + 1] = { prefix = depth, f = f }
end

---Serve the files of a folder below a path, see http.static.
---@param prefix string
---@param folder string
---@param options http.static.options?
function router:static(prefix, folder, options)
	if type(prefix) ~= "string" then
		error("router:static needs a string as the prefix, not a " .. type(prefix), 2)
	end
	local serve = require "http.static".handler(folder, options)
	prefix = prefix:gsub("/+$", "")
	self:get(prefix .. "/*path", function(req, res)
		return serve(req, res, req.params.path)
	end)
end

-------------------------------------------------------------------- matching

-- The node of a path, filling params; a later alternative undoes an earlier one.
local function find(node, list, i, params)
	local segment = list[i]
	if segment == nil then
		return node.methods and node
	end
	local fixed = node.fixed[segment]
	local found = fixed and find(fixed, list, i + 1, params)
	if found then
		return found
	end
	local any = node.any
	if any and segment ~= "" then
		found = find(any, list, i + 1, params)
		if found then
			params[any.name] = segment
			return found
		end
	end
	local rest = node.rest
	if rest then
		params[rest.name] = table.concat(list, "/", i)
		return rest
	end
end

-- The decoded segments of a request's path. A slash within one cannot be told apart
-- from one between two by most handlers, so it is refused.
local function request_segments(req)
	local list = segments(req.path)
	for i = 1, #list do
		local segment = list[i]
		if segment:find("%", 1, true) then
			-- In a path a plus sign is itself.
			local ok, text = pcall(url.decode, (segment:gsub("%+", "%%2B")))
			if not ok or text:find "[/%z]" then
				request.fail(400, "malformed path " .. req.path)
			end
			list[i] = text
		end
	end
	return list
end

local function allowed(methods)
	local list = {}
	for method in pairs(methods) do
		list[#list + 1] = method
	end
	if methods.GET and not methods.HEAD then
		list[#list + 1] = "HEAD"
	end
	if not methods.OPTIONS then
		list[#list + 1] = "OPTIONS"
	end
	table.sort(list)
	return table.concat(list, ", ")
end

local function not_found(_, res)
	res:send(404, "not found\n", { ["content-type"] = "text/plain" })
end

local function choose(self, req, list)
	if req.path:sub(1, 1) ~= "/" then
		if req.method == "OPTIONS" and req.url == "*" then
			return function(_, res) res:send(204) end
		end
		request.fail(400, "request target " .. req.url .. " is no path")
	end
	local params = {}
	local node = find(self.root, list, 1, params)
	if not node then
		return self.not_found or not_found
	end
	req.params = params
	local methods = node.methods
	local handler = methods[req.method] or req.method == "HEAD" and methods.GET or methods["*"]
	if handler then
		return handler
	end
	return function(_, res)
		res:send(req.method == "OPTIONS" and 204 or 405, "", { allow = allowed(methods) })
	end
end

local function covers(prefix, list)
	for i = 1, #prefix do
		if prefix[i] ~= list[i] then
			return false
		end
	end
	return true
end

---Serve a request; http.server calls this. A function in the field `not_found` serves
---those without a route.
---@param req http.request
---@param res http.response
function router:handle(req, res)
	if getmetatable(self) ~= router then
		error("a router is wanted: call its methods with a colon", 2)
	elseif type(req) ~= "table" or type(req.path) ~= "string" or type(req.method) ~= "string" then
		require "skynet.misuse"("router:handle", 1, "request", req)
	elseif type(res) ~= "table" then
		require "skynet.misuse"("router:handle", 2, "response", res)
	end
	local list = request_segments(req)
	local handler = choose(self, req, list)
	if #self.middleware == 0 then
		return handler(req, res)
	end
	local i = 0
	local function go_on()
		i = i + 1
		local m = self.middleware[i]
		if not m then
			return handler(req, res)
		elseif covers(m.prefix, list) then
			return m.f(req, res, go_on)
		end
		return go_on()
	end
	return go_on()
end

return router
