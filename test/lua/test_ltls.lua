-- ltls.c: contexts and sessions without a network: the test carries the bytes.

local test = require "testlib"
local certs = require "certs"

local ltls

-- A context of a server and one of a client that trusts `ca`.
local function server_context(name)
	local ctx = ltls.newctx()
	ctx:set_cert(certs.path((name or "server") .. ".pem"), certs.path((name or "server") .. ".key"))
	return ctx
end

local function client_context(ca)
	local ctx = ltls.newctx()
	ctx:set_ca(certs.path((ca or "ca") .. ".pem"))
	return ctx
end

local function pair(sctx, cctx, host)
	return ltls.newtls("server", sctx), ltls.newtls("client", cctx, host)
end

-- Carry bytes until both are done.
local function shake(server, client)
	local to_server = client:handshake()
	local to_client
	for _ = 1, 10 do
		to_client = not server:finished() and server:handshake(to_server) or nil
		if server:finished() and client:finished() then
			return to_client
		end
		to_server = to_client and not client:finished() and client:handshake(to_client) or nil
	end
	error "the handshake does not end"
end

local function connected(sctx, cctx, host)
	local server, client = pair(sctx or server_context(), cctx or client_context(), host or "localhost")
	local rest = shake(server, client)
	if rest then
		client:read(rest)
	end
	return server, client
end

test.case("without enablessl the module says what is missing", function()
	require "ltls.init.c".destructor()
	test.err(function() require "ltls.c" end,
		"ltls need init, Put enablessl = true in you config file.")
	require "ltls.init.c".constructor()
	ltls = require "ltls.c"
end)

test.case("a pair without names completes and carries data both ways", function()
	local sctx, cctx = server_context "self", ltls.newctx()
	local server, client = pair(sctx, cctx)
	local rest = shake(server, client)
	test.eq(server:finished(), true)
	test.eq(client:finished(), true)
	test.eq(client:read(rest), "")
	test.eq(server:read(client:write "hello"), "hello")
	test.eq(client:read(server:write "world"), "world")
	local big = ("0123456789abcdef"):rep(65536)
	test.ok(server:read(client:write(big)) == big)
	test.eq(server:read(client:write ""), "")
	test.eq(server:version(), "TLSv1.3")
	test.ok(server:cipher())
	test.eq(client:write(), "")
end)

test.case("the client's last flight comes with its handshake, not with a write", function()
	local server, client = pair(server_context(), client_context(), "localhost")
	local flight = client:handshake(server:handshake(client:handshake()))
	test.ok(client:finished())
	test.ok(flight and #flight > 0)
	-- The server can speak first.
	local tickets = server:handshake(flight)
	test.ok(server:finished())
	test.eq(client:read((tickets or "") .. server:write "welcome"), "welcome")
end)

test.case("any split of the bytes gives the same", function()
	local server, client = pair(server_context(), client_context(), "localhost")
	local function drip(to, bytes)
		local out = {}
		for i = 1, #bytes do
			if to:finished() then
				return table.concat(out), bytes:sub(i)
			end
			out[#out + 1] = to:handshake(bytes:sub(i, i))
		end
		return table.concat(out), ""
	end
	local answer = drip(server, client:handshake())
	local flight = drip(client, answer)
	drip(server, flight)
	test.ok(server:finished() and client:finished())
	local bytes, got = client:write("in small pieces"), ""
	for i = 1, #bytes do
		local data, ended = server:read(bytes:sub(i, i))
		got = got .. data
		test.eq(ended, false)
	end
	test.eq(got, "in small pieces")
end)

test.case("data behind the handshake is not lost", function()
	local server, client = pair(server_context(), client_context(), "localhost")
	local flight = client:handshake(server:handshake(client:handshake()))
	server:handshake(flight .. client:write "early bird")
	test.eq(server:read(), "early bird")
end)

test.case("the end of a stream is told apart from the lack of data", function()
	local server, client = connected()
	local bytes = client:write "last words" .. client:shutdown()
	local data, ended = server:read(bytes:sub(1, -2))
	test.eq(data, "last words")
	test.eq(ended, false)
	data, ended = server:read(bytes:sub(-1))
	test.eq(data, "")
	test.eq(ended, true)
	-- The other direction is still open.
	test.eq(client:read(server:write "still here"), "still here")
end)

test.case("a record that was tampered with is an error, behind the good ones", function()
	local server, client = connected()
	local good, bad = client:write "good", client:write "bad"
	bad = bad:sub(1, -2) .. string.char(bad:byte(-1) ~ 1)
	local data, ended, _, failure = server:read(good .. bad)
	test.eq(data, "good")
	test.eq(ended, false)
	test.match(failure, "bad record mac")
	test.err(function() server:read() end, "SSL_read error:1 (decryption failed or bad record mac)")
	test.err(function() server:write "x" end, "SSL_read error")
	-- The alert is there to be sent.
	local alert = server:write()
	test.ok(#alert > 0)
	test.err(function() client:read(alert) end, "alert bad record mac")
end)

test.case("garbage is refused when it comes", function()
	local server = ltls.newtls("server", server_context())
	local text = test.err(function() server:handshake "GET / HTTP/1.0\r\n\r\n" end,
		"SSL_do_handshake error:1 ret:-1 (")
	test.match(text, "http request")
	test.err(function() server:handshake() end, "SSL_do_handshake error")
	local other = ltls.newtls("server", server_context())
	test.err(function() other:handshake(("\xff"):rep(100)) end, "SSL_do_handshake error")
	local bare = ltls.newtls("server", ltls.newctx())
	test.err(function() bare:handshake(("\xff"):rep(100)) end, "SSL_do_handshake error")
end)

test.case("a server without a certificate says so", function()
	local server, client = pair(ltls.newctx(), client_context(), "localhost")
	test.err(function() server:handshake(client:handshake()) end, "see set_cert")
end)

local function refused(name, host, problem, ca)
	local server, client = pair(server_context(name), client_context(ca), host)
	local flight = server:handshake(client:handshake())
	test.err(function() client:handshake(flight) end,
		"SSL_do_handshake error:1 ret:-1 (certificate verify failed: " .. problem)
	-- The server learns why.
	test.err(function() server:handshake(client:write()) end, "alert")
end

test.case("a client verifies its named peer", function()
	connected(server_context(), client_context(), "127.0.0.1")
	connected(server_context(), client_context(), "::1")
	connected(server_context(), client_context(), "localhost.")
	refused("server", "other.test", "hostname mismatch")
	refused("server", "127.0.0.2", "IP address mismatch")
	refused("expired", "localhost", "certificate has expired")
	refused("self", "localhost", "self-signed certificate")
	refused("foreign", "localhost", "unable to get local issuer certificate")
	refused("server", "localhost", "unable to get local issuer certificate", "other-ca")
	-- Its certificate may be trusted itself.
	connected(server_context "self", client_context "self", "localhost")
	-- Wildcards stand for one label.
	connected(server_context "server2", client_context(), "a.wild.test")
	refused("server2", "a.b.wild.test", "hostname mismatch")
end)

test.case("verification can be turned off, or made to demand a name", function()
	local ctx = ltls.newctx()
	ctx:set_verify "none"
	connected(server_context "self", ctx, "wrong.test")
	ctx = ltls.newctx()
	ctx:set_verify "always"
	local client = ltls.newtls("client", ctx)
	test.err(function() client:handshake() end, "no host name to verify")
	test.eq(client:set_ext_host_name "localhost", 1)
	test.ok(client:handshake())
	test.err(function() client:set_ext_host_name "late" end, "before the handshake")
	test.err(function() ctx:set_verify "maybe" end, "invalid option")
	for _, name in ipairs { "", ("x"):rep(256), "a\0b" } do
		test.err(function() ltls.newtls("client", ctx, name) end, "not a host name")
	end
end)

test.case("mutual TLS: the server sees who the client is, or refuses it", function()
	local sctx = server_context()
	test.err(function() sctx:set_client_auth "required" end, "set_ca")
	sctx:set_ca(certs.path "ca.pem")
	sctx:set_client_auth "required"
	local cctx = client_context()
	cctx:set_cert(certs.path "client.pem", certs.path "client.key")
	local server, client = connected(sctx, cctx)
	local cert = server:peer_certificate()
	test.eq(cert.subject, "CN=alice,O=players")
	test.eq(cert.issuer, "CN=ca")
	test.eq(cert.names, { "alice.test" })
	test.eq(#cert.sha256, 64)
	test.ok(cert.not_before <= os.time() and os.time() < cert.not_after)
	test.eq(cert.pem, certs.text "client.pem":match "%-%-%-%-%-BEGIN.*")
	test.eq(client:peer_certificate().subject, "CN=localhost")
	test.eq(client:peer_certificate().names, { "localhost", "127.0.0.1", "::1" })
	-- None, and one of another authority.
	for _, name in ipairs { false, "foreign" } do
		local stranger = client_context()
		if name then
			stranger:set_cert(certs.path "foreign.pem", certs.path "foreign.key")
		end
		server, client = pair(sctx, stranger, "localhost")
		local flight = client:handshake(server:handshake(client:handshake()))
		test.err(function() server:handshake(flight) end,
			name and "certificate verify failed" or "peer did not return a certificate")
	end
	sctx:set_client_auth "optional"
	server = connected(sctx, client_context())
	test.eq(server:peer_certificate(), nil)
end)

test.case("certificates come from files or from texts, keys may be locked", function()
	local ctx = ltls.newctx()
	ctx:set_cert_pem(certs.text "chain.pem", certs.text "server.key")
	local trust = ltls.newctx()
	trust:set_ca_pem(certs.text "ca.pem" .. certs.text "other-ca.pem")
	connected(ctx, trust)
	ctx = ltls.newctx()
	test.err(function() ctx:set_cert_pem(certs.text "server.pem", certs.text "locked.key") end,
		"SSL_CTX_use_PrivateKey error:")
	ctx:set_cert_pem(certs.text "server.pem", certs.text "locked.key", "secret")
	ctx = ltls.newctx()
	test.err(function() ctx:set_cert(certs.path "server.pem", certs.path "locked.key") end,
		"SSL_CTX_use_PrivateKey_file error:")
	test.err(function() ctx:set_cert(certs.path "server.pem", certs.path "locked.key", "no") end,
		"SSL_CTX_use_PrivateKey_file error:")
	ctx:set_cert(certs.path "chain.pem", certs.path "locked.key", "secret")
	connected(ctx)
	test.err(function() ctx:set_cert() end, "need certfile")
	test.err(function() ctx:set_cert(certs.path "server.pem") end, "need private key")
	test.err(function() ctx:set_cert("/nowhere.pem", "/nowhere.key") end,
		"SSL_CTX_use_certificate_chain_file error:2147483650 (No such file or directory")
	test.err(function() ctx:set_cert(certs.path "server.pem", certs.path "client.key") end,
		"SSL_CTX_use_PrivateKey_file error:")
	test.err(function() ctx:set_cert_pem("x", "y") end, "SSL_CTX_use_certificate error:")
	test.err(function() ctx:set_ca "/nowhere" end, "can't load the trusted certificates")
	test.err(function() ctx:set_ca_pem "nothing" end, "can't load the trusted certificates")
	test.err(function() ctx:set_ca() end, "need a file or a folder")
end)

test.case("SNI chooses the certificate, and unknown names can be refused", function()
	local sctx, other = server_context(), server_context "server2"
	sctx:add_host("two.test", other)
	sctx:add_host("*.wild.test", other)
	for host, subject in pairs {
		["two.test"] = "CN=two.test", ["TWO.test"] = "CN=two.test", ["x.wild.test"] = "CN=two.test",
		["localhost"] = "CN=localhost", ["127.0.0.1"] = "CN=localhost",
	} do
		local server, client = connected(sctx, nil, host)
		test.eq(client:peer_certificate().subject, subject)
		test.eq(server:server_name(), not host:find "^127" and host or nil)
	end
	sctx:add_host(nil)
	local server, client = pair(sctx, client_context(), "localhost")
	local hello = client:handshake()
	test.err(function() server:handshake(hello) end, "SSL_do_handshake error")
	test.err(function() client:handshake(server:write()) end, "unrecognized name")
	for _, name in ipairs { "", "*", "*x", "a\0b" } do
		test.err(function() sctx:add_host(name, other) end, "not a host name")
	end
	test.err(function() sctx:add_host("x", sctx) end, "itself")
end)

test.case("a host's own demand for client certificates holds", function()
	local sctx, strict = server_context(), server_context "server2"
	strict:set_ca(certs.path "ca.pem")
	strict:set_client_auth "required"
	sctx:add_host("two.test", strict)
	connected(sctx)
	local server, client = pair(sctx, client_context(), "two.test")
	local flight = client:handshake(server:handshake(client:handshake()))
	test.err(function() server:handshake(flight) end, "peer did not return a certificate")
end)

test.case("ALPN: the server's first choice wins, no common one ends it", function()
	local sctx, cctx = server_context(), client_context()
	sctx:set_alpn { "h2", "http/1.1" }
	cctx:set_alpn { "http/1.1", "h2" }
	local server, client = connected(sctx, cctx)
	test.eq(server:alpn(), "h2")
	test.eq(client:alpn(), "h2")
	local plain = client_context()
	server, client = connected(sctx, plain)
	test.eq(server:alpn(), nil)
	test.eq(client:alpn(), nil)
	cctx:set_alpn { "smtp" }
	server, client = pair(sctx, cctx, "localhost")
	test.err(function() server:handshake(client:handshake()) end, "SSL_do_handshake error")
	test.err(function() client:handshake(server:write()) end, "no application protocol")
	for _, list in ipairs { { "" }, { ("x"):rep(256) }, { 1 }, { {} } } do
		test.err(function() cctx:set_alpn(list) end, "ALPN protocol 1")
	end
end)

test.case("sessions resume, for the same host and the same trust only", function()
	for _, version in ipairs { "1.2", "1.3" } do
		local sctx, cctx = server_context(), client_context()
		cctx:set_versions(version, version)
		local _, client = connected(sctx, cctx)
		test.eq(client:version(), "TLSv" .. version)
		test.eq(client:resumed(), false)
		local ticket = test.ok(client:session())
		local server
		server, client = pair(sctx, cctx, "localhost")
		test.eq(client:set_session(ticket), true)
		shake(server, client)
		test.eq(client:resumed(), true)
		test.eq(server:resumed(), true)
		test.eq(server:read(client:write "again"), "again")
		-- In another context of the client.
		local twin = client_context()
		twin:set_versions(version, version)
		server, client = pair(sctx, twin, "localhost")
		client:set_session(ticket)
		shake(server, client)
		test.eq(client:resumed(), true)
		-- Of another host, garbage, cut.
		client = ltls.newtls("client", cctx, "127.0.0.1")
		test.eq(client:set_session(ticket), false)
		client = ltls.newtls("client", cctx, "localhost")
		for _, bytes in ipairs { "", "garbage", ticket:sub(1, 20), "\1\1\255" } do
			test.eq(client:set_session(bytes), false)
		end
		-- Made without verification.
		local blind = client_context()
		blind:set_verify "none"
		client = ltls.newtls("client", cctx, "localhost")
		local _, unverified = connected(server_context "self", blind)
		test.eq(client:set_session(unverified:session()), false)
		-- Another context of the server does not know it.
		server, client = pair(server_context(), cctx, "localhost")
		test.eq(client:set_session(ticket), true)
		shake(server, client)
		test.eq(client:resumed(), false)
	end
end)

test.case("contexts with the same ticket keys resume each other's sessions", function()
	local keys = ("k"):rep(80)
	local one, two = server_context(), server_context()
	one:set_ticket_keys(keys)
	two:set_ticket_keys(keys)
	local cctx = client_context()
	local _, client = connected(one, cctx)
	local ticket = client:session()
	local server
	server, client = pair(two, cctx, "localhost")
	client:set_session(ticket)
	shake(server, client)
	test.eq(client:resumed(), true)
	test.err(function() one:set_ticket_keys "short" end, "need 80 bytes")
end)

test.case("versions and ciphers are what was set", function()
	local cctx = client_context()
	cctx:set_ciphers "ECDHE-ECDSA-AES256-GCM-SHA384:TLS_AES_128_GCM_SHA256"
	local _, client = connected(nil, cctx)
	test.eq(client:cipher(), "TLS_AES_128_GCM_SHA256")
	cctx:set_versions("1.2", "1.2")
	_, client = connected(nil, cctx)
	test.eq(client:version(), "TLSv1.2")
	test.eq(client:cipher(), "ECDHE-ECDSA-AES256-GCM-SHA384")
	test.err(function() cctx:set_ciphers "NO-SUCH-CIPHER" end,
		"SSL_CTX_set_cipher_list error:")
	test.err(function() cctx:set_ciphers "TLS_NO_SUCH" end, "SSL_CTX_set_ciphersuites error:")
	test.err(function() cctx:set_versions "1.1" end, "invalid option")
	test.err(function() cctx:set_versions("1.3", "1.2") end, "below the minimum")
	local sctx = server_context()
	sctx:set_versions "1.3"
	local server
	local old = client_context()
	old:set_versions("1.2", "1.2")
	server, client = pair(sctx, old, "localhost")
	test.err(function() server:handshake(client:handshake()) end, "unsupported protocol")
end)

test.case("a closed session, and wrong calls, are told", function()
	local server, client = connected()
	client:close()
	client:close()
	for _, method in ipairs { "handshake", "read", "write", "finished", "shutdown", "session" } do
		test.err(function() client[method](client) end, "context is closed")
	end
	test.err(function() server:handshake() end, "handshake is finished")
	test.err(function() ltls.newtls("peer", ltls.newctx()) end,
		"invalid method:peer e.g[server, client]")
	test.err(function() ltls.newtls("client") end, "skynet.tls.context")
	local fresh = ltls.newtls("server", server_context())
	test.err(function() fresh:read "x" end, "handshake is not finished")
	test.err(function() fresh:write "x" end, "handshake is not finished")
	test.eq(fresh:write(), "")
	-- A session outlives its context.
	do
		local sctx, cctx = server_context(), client_context()
		sctx:set_alpn { "x" }
		cctx:set_alpn { "x" }
		server, client = pair(sctx, cctx, "localhost")
	end
	collectgarbage()
	collectgarbage()
	shake(server, client)
	test.eq(server:alpn(), "x")
end)

test.run(function()
	certs.make()
	test.case("(clean-up)", certs.remove)
end)
