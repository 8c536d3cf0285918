// The game: connects the parts and the page around the canvas.
//
// `?name=Ann&room=meadow` in the address goes straight in. `window.arena` is for tests and
// the curious.

import { Input } from './input.js';
import { Link } from './net.js';
import { View } from './view.js';
import { AWAY, READY, World } from './world.js';

const $ = id => document.getElementById(id);
const ROOMS = [['meadow', 'Meadow', 150], ['harbour', 'Harbour', 205], ['ember', 'Ember', 18]];
const LINES = 8;
const INPUT_EVERY = 50; // ms between two inputs

const world = new World(), view = new View($('stage')), link = new Link();
let room = 'meadow', name = '';

const input = new Input({
	dash: () => link.send({ t: 'dash' }),
	chat: () => $('text').focus(),
	busy: () => document.activeElement instanceof HTMLInputElement || !document.body.classList.contains('playing'),
});

//-------------------------------------------------------------------- door

for (const [id, title, hue] of ROOMS) {
	const label = document.createElement('label');
	label.style.setProperty('--hue', hue);
	const radio = Object.assign(document.createElement('input'), { type: 'radio', name: 'room', value: id });
	radio.checked = id == room;
	label.append(radio, Object.assign(document.createElement('span'), { textContent: title }));
	$('pick').append(label);
}
$('name').value = localStorage.getItem('arena.name') || '';

function play() {
	localStorage.setItem('arena.name', name);
	document.body.classList.add('playing');
	document.activeElement?.blur();
	link.start(() => ({ name, room }));
}

$('enter').addEventListener('submit', e => {
	e.preventDefault();
	name = $('name').value.trim();
	room = new FormData($('enter')).get('room') || room;
	play();
});

//------------------------------------------------------------------ around

function showState() {
	const text = {
		connecting: 'Connecting…',
		open: link.ping === null ? 'Connected' : `${link.ping} ms`,
		lost: 'Connection lost, trying again…',
		ended: `Ended: ${link.reason}`,
	}[link.state] || 'Not connected';
	$('status').dataset.state = link.state;
	$('status').lastElementChild.textContent = text;
}

function showRooms() {
	$('rooms').replaceChildren(...world.rooms.map(r => {
		const b = Object.assign(document.createElement('button'), { textContent: r.title });
		b.setAttribute('aria-current', r.name == world.room);
		b.onclick = () => { b.blur(); link.send({ t: 'room', name: r.name }); };
		return b;
	}));
}

function showBoard() {
	const best = [...world.players.values()].sort((a, b) => b.score - a.score || a.id - b.id).slice(0, 8);
	$('board').replaceChildren(...best.map(p => {
		const li = document.createElement('li'), dot = document.createElement('i');
		dot.style.background = `hsl(${p.hue} 80% 62%)`;
		li.className = (p.id == world.me ? 'me ' : '') + (p.flags & AWAY ? 'away' : '');
		li.append(dot, Object.assign(document.createElement('span'), { textContent: p.name }),
			Object.assign(document.createElement('b'), { textContent: p.score }));
		return li;
	}));
}

function showLine({ id, name, hue, text }) {
	const p = document.createElement('p');
	if (name) {
		const who = Object.assign(document.createElement('b'), { textContent: `${name}: ` });
		who.style.color = `hsl(${hue} 85% 72%)`;
		p.append(who, text);
	} else {
		p.className = 'note';
		p.textContent = text;
	}
	$('lines').append(p);
	while ($('lines').childElementCount > LINES) $('lines').firstElementChild.remove();
	return id;
}

let noticeTimer;
function notice(text) {
	$('notice').textContent = text;
	$('notice').hidden = false;
	clearTimeout(noticeTimer);
	noticeTimer = setTimeout(() => { $('notice').hidden = true; }, 3500);
}

$('say').addEventListener('submit', e => {
	e.preventDefault();
	const text = $('text').value.trim();
	if (text) link.send({ t: 'chat', text });
	$('text').value = '';
	$('text').blur();
});
$('text').addEventListener('keydown', e => {
	if (e.key == 'Escape') $('text').blur();
});

//---------------------------------------------------------------- messages

const on = {
	hello(m) {
		world.enter(m);
		room = m.room;
		sent = null;
		$('text').maxLength = m.rules.max_chat;
		$('lines').replaceChildren();
		for (const line of Array.isArray(m.chat) ? m.chat : []) showLine(line);
		showRooms();
		showBoard();
	},
	s: m => world.snapshot(m),
	enter: m => world.add(m.player),
	leave: m => world.remove(m.id),
	hit: m => world.hit(m),
	chat(m) {
		if (showLine(m)) view.say(m.id, m.text);
	},
	error: m => notice(m.text),
};

link.addEventListener('state', showState);
link.addEventListener('message', e => {
	const f = on[e.data.t];
	if (f && (world.rules || e.data.t == 'hello' || e.data.t == 'error')) f(e.data);
});
setInterval(() => world.rules && showBoard(), 250);

//------------------------------------------------------------------- frames

let sent = null, sentAt = 0, lastFrame = performance.now(), cooled = 1;

function sendInput(now, wish) {
	if (link.state != 'open' || now - sentAt < INPUT_EVERY) return;
	const x = Math.round(wish.x * 100) / 100, y = Math.round(wish.y * 100) / 100;
	if (sent && sent.x == x && sent.y == y) return;
	sent = { x, y };
	sentAt = now;
	link.send({ t: 'input', x, y });
}

function frame(now) {
	const dt = Math.min(0.1, (now - lastFrame) / 1000);
	lastFrame = now;
	const wish = link.state == 'open' ? input.wish : { x: 0, y: 0 };
	sendInput(now, wish);
	world.advance(now, dt, wish);
	view.draw(world, now);
	const me = world.self;
	if (me) {
		cooled = me.flags & READY ? 1 : cooled == 1 ? 0 : Math.min(0.98, cooled + dt * world.rules.ticks / world.rules.dash_cooldown);
		$('dash').style.setProperty('--ready', cooled);
	}
	requestAnimationFrame(frame);
}

requestAnimationFrame(frame);

window.arena = { world, link };
const asked = new URLSearchParams(location.search);
if (asked.has('name')) {
	name = asked.get('name');
	room = asked.get('room') || room;
	play();
}
