-- sproto: objects over compiled schemas: encoding, decoding and the RPC layer.
-- Works in services and in the plain interpreter alike. Nothing yields.
--
-- An object holds one reference to a native schema and gives it back when it is
-- collected. Native types are bare pointers; whatever keeps one (a host, its
-- sessions) keeps the object too.

local core = require "sproto.core"

---@class sproto
---@field package __cobj lightuserdata    the native schema
---@field package __types table<string, lightuserdata>
---@field package __protocols table<string|integer, sproto.protocol>
local sproto = {}

---@class sproto.protocol
---@field name string
---@field tag integer
---@field request? lightuserdata    opaque
---@field response? lightuserdata   opaque; null for a confirm

---@class sproto.host
---@field package __sproto sproto
---@field package __package lightuserdata
---@field package __sessions table<integer, lightuserdata|true>  response types waited for
---@field package __peers table<sproto, boolean>                  keeps those types alive
local host = {}

local host_meta = { __index = host }
local owner_meta = {
	__index = sproto,
	__gc = function(self)
		if self.__cobj then
			core.deleteproto(self.__cobj)
		end
	end,
}
local borrower_meta = { __index = sproto }

local function new_object(cobj, meta)
	return setmetatable({ __cobj = cobj, __types = {}, __protocols = {} }, meta)
end

---An object over a compiled bundle. Raises if the bundle is malformed.
---@param bundle string
---@return sproto
function sproto.new(bundle)
	-- The owner comes first: without memory for it there must be nothing to own.
	local self = new_object(false, owner_meta)
	self.__cobj = core.newproto(bundle)
	if not self.__cobj then
		error("invalid sproto bundle", 2)
	end
	return self
end

---An object over a native schema of somebody else, who must keep it alive.
---@param cobj lightuserdata
---@return sproto
function sproto.sharenew(cobj)
	return new_object(cobj, borrower_meta)
end

---An object that takes over the caller's reference to a native schema.
---@param cobj lightuserdata
---@return sproto
function sproto.adopt(cobj)
	local ok, self = pcall(new_object, cobj, owner_meta)
	if not ok then
		core.deleteproto(cobj)
		error(self, 0)
	end
	return self
end

---An object over a schema in text form. Raises with line and cause.
---@param text string
---@return sproto
function sproto.parse(text)
	return sproto.new(require "sprotoparser".parse(text))
end

sproto.pack = core.pack
sproto.unpack = core.unpack

--------------------------------------------------------------- types and data

-- At the caller of the method.
local function no_object(depth)
	error("a sproto object is wanted: call its methods with a colon, as in object:encode(...)", 3 + depth)
end

-- depth: functions between this and the method, that one included.
local function find_type(self, name, depth)
	local types = self.__types or no_object(depth)
	local t = types[name]
	if t == nil then
		if type(name) ~= "string" then
			return nil
		end
		t = core.querytype(self.__cobj, name)
		types[name] = t
	end
	return t
end

local function query_type(self, name)
	return find_type(self, name, 2) or error("type " .. tostring(name) .. " not found", 3)
end

local function find_protocol(self, key, depth)
	local protocols = self.__protocols or no_object(depth)
	local p = protocols[key]
	if p then
		return p
	end
	if type(key) ~= "string" and not math.tointeger(key) then
		return nil
	end
	local other, request, response = core.protocol(self.__cobj, key)
	if not other then
		return nil
	end
	p = { request = request, response = response }
	if type(key) == "number" then
		p.tag, p.name = math.tointeger(key), other
	else
		p.tag, p.name = other, key
	end
	protocols[p.name] = p
	protocols[p.tag] = p
	return p
end

local function query_protocol(self, key)
	return find_protocol(self, key, 2) or error(tostring(key) .. " not found", 3)
end

---@param name string full name
---@return boolean
function sproto:exist_type(name)
	return find_type(self, name, 1) ~= nil
end

---@param key string|integer name or tag
---@return boolean
function sproto:exist_proto(key)
	return find_protocol(self, key, 1) ~= nil
end

---@param key string|integer name or tag
---@return sproto.protocol
function sproto:queryproto(key)
	local p = query_protocol(self, key)
	return p
end

---@param typename string
---@param value table
---@return string
function sproto:encode(typename, value)
	return core.encode(query_type(self, typename), value)
end

---@param typename string
---@param ... any blob (string, or pointer and size), then a table to fill
---@return table value
---@return integer consumed bytes
function sproto:decode(typename, ...)
	return core.decode(query_type(self, typename), ...)
end

---Encode and zero-pack.
---@param typename string
---@param value table
---@return string
function sproto:pencode(typename, value)
	return core.pack(core.encode(query_type(self, typename), value))
end

---Unpack and decode.
---@param typename string
---@param ... any string, or pointer and size
---@return table value
---@return integer consumed bytes of the unpacked data
function sproto:pdecode(typename, ...)
	return core.decode(query_type(self, typename), core.unpack(...))
end

---A table with an example value for each field.
---@param typename string type or, with `kind`, protocol
---@param kind? "REQUEST"|"RESPONSE" a protocol's body
---@return table? # nothing if the protocol has no such body
function sproto:default(typename, kind)
	if kind == nil then
		return core.default(query_type(self, typename))
	end
	local p = query_protocol(self, typename)
	local body
	if kind == "REQUEST" then
		body = p.request
	elseif kind == "RESPONSE" then
		body = p.response
	else
		error("Invalid type", 2)
	end
	if body then
		return core.default(body)
	end
end

-------------------------------------------------------------- protocol bodies

---@param key string|integer
---@param value? table ignored if the protocol has no request
---@return string body
---@return integer tag
function sproto:request_encode(key, value)
	local p = query_protocol(self, key)
	if p.request then
		return core.encode(p.request, value), p.tag
	end
	return "", p.tag
end

---@param key string|integer
---@param value? table must be nil for a confirm
---@return string body
function sproto:response_encode(key, value)
	local p = query_protocol(self, key)
	return p.response and core.encode(p.response, value) or ""
end

---@param key string|integer
---@param ... any string, or pointer and size
---@return table? value
---@return string name
function sproto:request_decode(key, ...)
	local p = query_protocol(self, key)
	if p.request then
		return core.decode(p.request, ...), p.name
	end
	return nil, p.name
end

---@param key string|integer
---@param ... any string, or pointer and size
---@return table? value # nothing if the protocol has no response
---@return integer? consumed
function sproto:response_decode(key, ...)
	local p = query_protocol(self, key)
	if p.response then
		return core.decode(p.response, ...)
	end
end

-------------------------------------------------------------------------- RPC

---An RPC host: takes requests of this schema, and answers to what it sent.
---@param package_type? string type of the header, "package" by default
---@return sproto.host
function sproto:host(package_type)
	package_type = package_type or "package"
	return setmetatable({
		__sproto = self,
		__package = find_type(self, package_type, 1) or
			error("type " .. package_type .. " not found", 2),
		__sessions = {},
		__peers = {},
	}, host_meta)
end

-- Header fields are set anew before each use; never visible outside.
local header = {}

local function encode_header(self, tag, session, ud)
	header.type, header.session, header.ud = tag, session, ud
	return core.encode(self.__package, header)
end

-- The function that answers one request.
local function new_responder(self, response, session)
	return function(value, ud)
		local text = encode_header(self, nil, session, ud)
		if response then
			text = text .. core.encode(response, value)
		end
		return core.pack(text)
	end
end

local function dispatch_request(self, head, text, consumed)
	local p = find_protocol(self.__sproto, head.type, 1) or
		error(tostring(head.type) .. " not found", 0)
	local value
	if p.request then
		value = core.decodeat(p.request, text, consumed)
	end
	local responder
	if head.session then
		responder = new_responder(self, p.response, head.session)
	end
	return "REQUEST", p.name, value, responder, head.ud
end

local function dispatch_response(self, head, text, consumed)
	local session = head.session or error("session not found", 0)
	local response = self.__sessions[session] or error("Unknown session", 0)
	local value
	if response ~= true then
		value = core.decodeat(response, text, consumed)
	end
	-- Last: a malformed answer leaves the session waiting.
	self.__sessions[session] = nil
	return "RESPONSE", session, value, head.ud
end

---Take one message apart. Raises when it is malformed or unexpected.
---@param ... any string, or pointer and size
---@return "REQUEST"|"RESPONSE" kind
---@return string|integer what name of the protocol, or session
---@return table? value
---@return function? responder of a request with session: responder(value, ud) -> packed
---       response; of an answer this is its user data
---@return any ud of a request
function host:dispatch(...)
	local text = core.unpack(...)
	local head, consumed = core.decode(self.__package, text)
	if head.type then
		return dispatch_request(self, head, text, consumed)
	end
	return dispatch_response(self, head, text, consumed)
end

---A function that makes requests of the peer's schema:
---f(name_or_tag, value, session, ud) -> packed request. With a session, dispatch
---expects one answer.
---@param peer sproto
---@return fun(key: string|integer, value?: table, session?: integer, ud?: any): string
function host:attach(peer)
	self.__peers[peer] = true
	return function(key, value, session, ud)
		local p = query_protocol(peer, key)
		local text = encode_header(self, p.tag, session, ud)
		if p.request then
			text = text .. core.encode(p.request, value)
		end
		if session then
			self.__sessions[session] = p.response or true
		end
		return core.pack(text)
	end
end

return sproto
