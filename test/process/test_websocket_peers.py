"""http.websocket and wsgate against other people's implementations, both ways: node's ws
as client and as server, and Chromium as the client that players have."""

import contextlib
import http.server
import os
import re
import subprocess
import threading

from browser import Browser
from harness import LIMIT, Node

# Two echo servers, one with compression, and a gate whose agent is the watchdog.
SERVER = """
local skynet = require "skynet"
local socket = require "skynet.socket"
local websocket = require "http.websocket"

local echo = {}
function echo.handshake(id, header, url)
	skynet.error("handshake", url, header.origin, websocket.protocol(id))
end
function echo.message(id, data, kind)
	if data == "close me" then
		websocket.close(id, 4321, "as you wish")
	elseif data == "ping me" then
		websocket.ping(id, "are you there?")
	else
		websocket.write(id, data, kind)
	end
end
function echo.pong(id) websocket.write(id, "pong came") end
function echo.close(id, code, reason) skynet.error("closed", code, reason) end
echo["error"] = function() skynet.error("lost") end

local function listen(name, options)
	local id, _, port = socket.listen("127.0.0.1", 0)
	socket.start(id, function(fd, addr)
		local ok, err = websocket.accept(fd, echo, "ws", addr, options)
		skynet.error("accept", ok, err)
	end)
	skynet.error(name, port)
end

skynet.start(function()
	listen("plain", { protocols = { "game.v1" } })
	listen("deflate", { deflate = { threshold = 1 }, max_message = 4000000 })
	listen("small", { max_message = 1000 })
end)
"""

GATE = """
local skynet = require "skynet"
local wsgate = require "snax.wsgate"
local gate
local SOCKET = {}
function SOCKET.open(fd, addr, info)
	skynet.error("open", info.url, info.origin)
	skynet.call(gate, "lua", "forward", fd)
end
function SOCKET.close(fd, code, reason) skynet.error("close", code, reason) end
skynet.register_protocol {
	name = "client", id = skynet.PTYPE_CLIENT, unpack = skynet.tostring,
	dispatch = function(fd, _, text)
		skynet.ignoreret()
		if text == "kick" then
			skynet.send(gate, "lua", "kick", fd, 4000, "kicked")
		else
			wsgate.send(fd, "re:" .. text, "text")
		end
	end,
}
skynet.start(function()
	skynet.dispatch("lua", function(_, _, _, what, ...) SOCKET[what](...) end)
	gate = skynet.newservice "wsgate"
	local _, port = skynet.call(gate, "lua", "open", { address = "127.0.0.1", port = 0,
		deflate = true, path = "/ws", watchdog = skynet.self() })
	skynet.error("port", port)
end)
"""

CLIENT = """
local skynet = require "skynet"
local websocket = require "http.websocket"
local url = skynet.getenv "peer_url"
local function say(...) skynet.error("got", ...) end
skynet.start(function()
	for _, deflate in ipairs { false, true } do
		local id = websocket.connect(url .. "/path", { Cookie = "a=b" }, 1000,
			{ deflate = deflate, protocols = { "game.v1" } })
		say("protocol", websocket.protocol(id))
		for _, n in ipairs { 0, 1, 125, 126, 65535, 65536, 1000000 } do
			for _, kind in ipairs { "text", "binary" } do
				local text = ("abcdefg"):rep(n // 7 + 1):sub(1, n)
				websocket.write(id, text, kind)
				assert(websocket.read(id) == text, n)
			end
		end
		websocket.write(id, "fragments")
		say("fragments", (websocket.read(id)))
		websocket.ping(id)
		websocket.write(id, "close me")
		local data, payload = websocket.read(id)
		say("close", data, string.unpack(">I2", payload), payload:sub(3))
		id = websocket.connect(url, nil, 1000, { deflate = deflate })
		websocket.write(id, "x")
		websocket.read(id)
		websocket.close(id, 4001, "from skynet")
	end
	say "all"
end)
"""

# A node program: the assertions are its own; it prints "ok" at the end.
NODE_CLIENT = """
const WebSocket = require('ws'), assert = require('assert');
const [plain, deflate, small] = process.argv.slice(1);
const open = (url, protocols, options) => new Promise((resolve, reject) => {
	const ws = new WebSocket(url, protocols, options);
	ws.queue = []; ws.waiting = [];
	ws.on('message', (data, binary) => {
		const item = [data, binary];
		ws.waiting.length ? ws.waiting.shift()(item) : ws.queue.push(item);
	});
	ws.next = () => ws.queue.length ? Promise.resolve(ws.queue.shift()) : new Promise(r => ws.waiting.push(r));
	ws.ended = new Promise(r => ws.on('close', (code, reason) => r([code, String(reason)])));
	ws.on('open', () => resolve(ws)); ws.on('error', reject);
});
async function echo(ws, limit) {
	for (const n of [0, 1, 125, 126, 127, 128, 65535, 65536, 250000, 3000000]) {
		if (n > limit) continue;
		const text = 'κx'.repeat(n).slice(0, n), bytes = Buffer.from(Array.from({length: Math.min(n, 100000)}, (_, i) => i * 7 & 255));
		if (Buffer.byteLength(text) <= limit) {
			ws.send(text);
			const [data, binary] = await ws.next();
			assert.strictEqual(binary, false); assert.strictEqual(String(data), text);
		}
		ws.send(bytes);
		const [data, binary] = await ws.next();
		assert.strictEqual(binary, true); assert(bytes.equals(data));
	}
	ws.send('frag', {fin: false}); ws.ping('between'); ws.send('men', {fin: false}); ws.send('ts', {fin: true});
	assert.strictEqual(String((await ws.next())[0]), 'fragments');
	const pong = new Promise(r => ws.once('pong', r));
	ws.ping('payload'); assert.strictEqual(String(await pong), 'payload');
	ws.send('ping me'); assert.strictEqual(String((await ws.next())[0]), 'pong came');
}
(async () => {
	let ws = await open(plain, ['other', 'game.v1'], {perMessageDeflate: true});
	assert.strictEqual(ws.protocol, 'game.v1'); assert.strictEqual(ws.extensions, '');
	await echo(ws, 262144);
	ws.close(4000, 'bye'); assert.deepStrictEqual(await ws.ended, [4000, '']);
	ws = await open(plain, [], {}); ws.close(); assert.deepStrictEqual(await ws.ended, [1005, '']);
	ws = await open(plain, [], {});
	ws.send('close me'); assert.deepStrictEqual(await ws.ended, [4321, 'as you wish']);
	for (const o of [{threshold: 0}, {threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true},
			{threshold: 0, serverMaxWindowBits: 10, clientMaxWindowBits: 10}, {threshold: 0, clientMaxWindowBits: true}]) {
		ws = await open(deflate, [], {perMessageDeflate: o});
		assert(ws.extensions.startsWith('permessage-deflate'), ws.extensions);
		await echo(ws, 4000000);
		ws.close(1000, 'done'); assert.strictEqual((await ws.ended)[0], 1000);
	}
	ws = await open(small, [], {perMessageDeflate: false});
	ws.send('x'.repeat(1001)); assert.deepStrictEqual(await ws.ended, [1009, 'payload_len is too large']);
	ws = await open(small, [], {});
	ws.send(Buffer.from([0xff, 0xfe]), {binary: false});
	assert.deepStrictEqual(await ws.ended, [1007, 'text is not valid UTF-8']);
	console.log('ok');
})().catch(e => { console.log(e); process.exit(1); });
"""

NODE_SERVER = """
const { WebSocketServer } = require('ws');
const wss = new WebSocketServer({host: '127.0.0.1', port: 0, perMessageDeflate: {threshold: 1},
	handleProtocols: p => p.has('game.v1') ? 'game.v1' : false});
wss.on('listening', () => console.log('port', wss.address().port));
wss.on('connection', (ws, request) => {
	console.log('request', request.url, request.headers.cookie, ws.extensions);
	ws.on('message', (data, binary) => {
		if (!binary && String(data) == 'close me') return ws.close(4321, 'as you wish');
		if (!binary && String(data) == 'fragments') {
			ws.send('frag', {fin: false}); ws.ping('between'); ws.send('men', {fin: false}); ws.send('ts', {fin: true});
			return;
		}
		ws.send(data, {binary});
	});
	ws.on('pong', data => console.log('pong', String(data)));
	ws.on('close', (code, reason) => console.log('close', code, String(reason)));
	ws.on('error', e => console.log('error', e));
});
"""


def node(script, *args, **kw):
    env = dict(os.environ, NODE_PATH="/usr/share/nodejs:/usr/lib/nodejs", NODE_NO_WARNINGS="1")
    return subprocess.Popen(["node", "-e", script, "--", *args], env=env, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)


def lines_until(p, pattern, n):
    """What a process prints, until n of its lines match."""
    timer = threading.Timer(LIMIT, p.kill)
    timer.start()
    out = ""
    for line in p.stdout:
        out += line
        if len(re.findall(pattern, out)) == n:
            break
    timer.cancel()
    return out


def service(text, config=""):
    return Node('start = "wspeer"\n' + config,
                files={"svc/wspeer.lua": text})


def urls(n):
    return ["ws://127.0.0.1:" + n.wait_for(name + r" (\d+)$").group(1) for name in ("plain", "deflate", "small")]


def test_node_ws_as_client():
    with service(SERVER) as n:
        p = node(NODE_CLIENT, *urls(n))
        try:
            out = p.communicate(timeout=LIMIT * 2)[0]
        finally:
            p.kill()
        assert out.strip() == "ok", out
        n.wait_for(r"closed 4000 bye$")
        n.wait_for(r"accept false payload_len is too large$")
        n.wait_for(r"accept false text is not valid UTF-8$")


def test_node_ws_as_server():
    p = node(NODE_SERVER)
    try:
        port = p.stdout.readline().split()[1]
        with service(CLIENT, f'peer_url = "ws://127.0.0.1:{port}"\n') as n:
            n.wait_for(r"got all$")
            assert n.text.count("got protocol game.v1\n") == 2, n.text
            assert n.text.count("got fragments fragments\n") == 2, n.text
            assert n.text.count("got close false 4321 as you wish\n") == 2, n.text
        # It gets to know that the connections have ended.
        out = lines_until(p, r"close 4\d+", 4)
    finally:
        p.kill()
        p.communicate()
    assert "request /path a=b " in out, out
    assert "request /path a=b permessage-deflate" in out, out
    assert out.count("pong between") == 2, out
    assert out.count("close 4321") == 2 and out.count("close 4001 from skynet") == 2, out
    assert "error" not in out, out


# Runs in a page: opens a socket with queues, defines nothing global.
PAGE = """
const open = (url, protocols) => new Promise((resolve, reject) => {
	const ws = new WebSocket(url, protocols || []);
	ws.binaryType = 'arraybuffer'; ws.queue = []; ws.waiting = [];
	ws.onmessage = e => ws.waiting.length ? ws.waiting.shift()(e.data) : ws.queue.push(e.data);
	ws.next = () => ws.queue.length ? Promise.resolve(ws.queue.shift()) : new Promise(r => ws.waiting.push(r));
	ws.ended = new Promise(r => ws.onclose = e => r([e.code, e.reason, e.wasClean]));
	ws.onopen = () => resolve(ws); ws.onerror = () => reject(new Error('no connection to ' + url));
});
const check = (a, b) => { if (JSON.stringify(a) != JSON.stringify(b)) throw new Error(JSON.stringify(a) + ' is not ' + JSON.stringify(b)); };
async function echo(ws, sizes) {
	for (const n of sizes) {
		const text = 'é'.repeat(n), bytes = new Uint8Array(n).map((_, i) => i * 7);
		ws.send(text); check(await ws.next() === text, true);
		ws.send(bytes); check(Array.from(new Uint8Array(await ws.next())), Array.from(bytes));
	}
}
"""


def test_the_sample_talks_to_itself():
    with Node('start = "simplewebsocket"\nwebsocket_port = 0\n') as n:
        n.wait_for(r"listen on ws://127\.0\.0\.1:\d+$")
        n.wait_for(r"handshake of 127\.0\.0\.1:\d+: /test, host 127\.0\.0\.1:\d+$")
        n.wait_for(r">: hello world! 1$")
        n.wait_for(r"<: hello world! 2$")
        assert n.stop() == 0


@contextlib.contextmanager
def empty_page():
    """The url of an empty page on this machine: others may not talk to it."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_chromium_as_client():
    with service(SERVER) as n, empty_page() as page:
        with Browser() as b:
            b.open(page)
            drive_page(b, n)
        # A page that has gone away.
        n.wait_for(r"closed 1001|lost")


def drive_page(b, n):
    b.run_async(PAGE + """
        let ws = await open(args[0], ['x', 'game.v1']);
        check([ws.protocol, ws.extensions], ['game.v1', '']);
        await echo(ws, [0, 1, 125, 126, 65535, 65536, 100000]);
        ws.send('ping me'); check(await ws.next(), 'pong came');
        ws.close(4000, 'bye'); check(await ws.ended, [4000, '', true]);
        ws = await open(args[0]); ws.send('close me');
        check(await ws.ended, [4321, 'as you wish', true]);
        ws = await open(args[1]);
        check(ws.extensions.startsWith('permessage-deflate'), true);
        await echo(ws, [0, 1, 125, 126, 65535, 65536, 300000, 1000, 1000, 1000]);
        ws.close(); check((await ws.ended)[2], true);
        ws = await open(args[2]); ws.send('x'.repeat(100000));
        check((await ws.ended).slice(0, 2), [1009, 'payload_len is too large']);
    """, *urls(n))
    n.wait_for(r"handshake / \S+ game\.v1$")
    n.wait_for(r"closed 4000 bye$")
    n.wait_for(r"accept false payload_len is too large$")
    b.run_async(PAGE + "window.ws = await open(args[0]);", urls(n)[0])


def test_chromium_and_the_gate():
    with service(GATE) as n, empty_page() as page, Browser() as b:
        url = "ws://127.0.0.1:" + n.wait_for(r"\] port (\d+)$").group(1)
        b.open(page)
        b.run_async(PAGE + """
            let ws = await open(args[0] + '/ws?token=1');
            check(ws.extensions.startsWith('permessage-deflate'), true);
            for (let i = 0; i < 200; i++) ws.send('m' + i);
            for (let i = 0; i < 200; i++) check(await ws.next(), 're:m' + i);
            ws.send('x'.repeat(20000)); check((await ws.next()).length, 20003);
            ws.send('kick'); check(await ws.ended, [4000, 'kicked', true]);
            ws = await open(args[0] + '/ws'); ws.send('x'.repeat(70000));
            check((await ws.ended)[0], 1009);
            const refused = await open(args[0] + '/other').then(() => 'open', () => 'refused');
            check(refused, 'refused');
        """, url)
        n.wait_for(r"open /ws\?token=1 ")
        n.wait_for(r"close 4000 kicked$")
        n.wait_for(r"close 1009 ")
