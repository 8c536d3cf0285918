// What the page knows of the room, and where things are at a moment between snapshots.
//
// Other players are shown a little in the past, between two snapshots, so that they move
// smoothly whatever the network does. The own player is moved at once by the same rules as
// the server's, and drawn towards what the server says.

const DELAY = 110; // ms that others are shown in the past
const SNAP = 140; // an error larger than this is not smoothed
export const DASHING = 1, SAFE = 2, AWAY = 4, READY = 8;

const list = v => Array.isArray(v) ? v : [];

export class World {
	constructor() {
		this.players = new Map();
		this.sparks = new Map();
		this.effects = [];
		this.rules = null;
		this.me = null;
	}

	get self() {
		return this.players.get(this.me);
	}

	enter(message) {
		Object.assign(this, { rules: message.rules, room: message.room, rooms: message.rooms, me: message.id });
		this.players.clear();
		this.sparks.clear();
		this.clock = null;
		for (const p of list(message.players)) this.add(p);
		for (const row of list(message.rows)) this.place(row, performance.now());
		for (const [id, x, y] of list(message.sparks)) this.sparks.set(id, { x, y, born: 0 });
	}

	add({ id, name, hue }) {
		const p = this.players.get(id) || { id, past: [], x: 0, y: 0, vx: 0, vy: 0, score: 0, flags: 0, angle: 0, trail: [] };
		this.players.set(id, Object.assign(p, { name, hue }));
	}

	place([id, x, y, vx, vy, score, flags], at) {
		const p = this.players.get(id);
		if (!p) return;
		const first = p.past.length == 0;
		p.past.push({ at, x, y });
		if (p.past.length > 12) p.past.shift();
		Object.assign(p, { score, flags, server: { x, y, vx, vy } });
		if (first) Object.assign(p, { x, y, vx, vy });
		if (id == this.me) this.correct(p);
	}

	// The server's word on the own player: velocities that it alone decides are taken at
	// once, places are approached.
	correct(p) {
		const { x, y, vx, vy } = p.server;
		const jolt = Math.hypot(vx - p.vx, vy - p.vy);
		if (p.flags & DASHING || jolt > 350) Object.assign(p, { vx, vy });
		const ahead = 0.06; // about half a round trip and half a tick
		const dx = x + vx * ahead - p.x, dy = y + vy * ahead - p.y;
		const pull = Math.hypot(dx, dy) > SNAP ? 1 : 0.12;
		p.x += dx * pull;
		p.y += dy * pull;
	}

	// Snapshots come at a steady rate, packets do not: their time is the tick's, moved
	// to fit the earliest arrivals.
	timeOf(tick) {
		const step = 1000 / this.rules.ticks;
		const offset = performance.now() - tick * step;
		this.clock = this.clock === null || offset < this.clock ? offset : this.clock + (offset - this.clock) * 0.02;
		return this.clock + tick * step;
	}

	snapshot(message) {
		if (!this.rules) return;
		const at = this.timeOf(message.k);
		for (const row of list(message.p)) this.place(row, at);
		for (const [id, x, y] of list(message.b)) this.sparks.set(id, { x, y, born: performance.now() });
		for (const [id, by] of list(message.e)) this.eat(id, by);
	}

	eat(id, by) {
		const s = this.sparks.get(id), p = this.players.get(by);
		this.sparks.delete(id);
		if (s && p) this.burst(s.x, s.y, 48, 8, by == this.me ? '+1' : null);
	}

	hit(message) {
		const p = this.players.get(message.id);
		if (p) this.burst(p.x, p.y, p.hue, 22, message.lost ? `−${message.lost}` : 'ouch');
	}

	burst(x, y, hue, n, text) {
		const at = performance.now();
		for (let i = 0; i < n; i++) {
			const a = Math.random() * 7, v = 60 + Math.random() * 200;
			this.effects.push({ x, y, vx: Math.cos(a) * v, vy: Math.sin(a) * v, hue, at, life: 300 + Math.random() * 400 });
		}
		if (text) this.effects.push({ x, y: y - 20, vx: 0, vy: -50, hue, at, life: 900, text });
	}

	remove(id) {
		this.players.delete(id);
	}

	// Moves everything to the moment `now`; `wish` is what the own player wants.
	advance(now, dt, wish) {
		if (!this.rules) return;
		for (const p of this.players.values()) {
			const { x, y } = p;
			if (p.id == this.me) this.predict(p, dt, wish);
			else this.interpolate(p, now - DELAY);
			const dx = p.x - x, dy = p.y - y;
			if (Math.hypot(dx, dy) > 0.4) p.angle = Math.atan2(dy, dx);
			p.trail = p.trail.filter(t => now - t.at < 260);
			if (p.flags & DASHING || Math.hypot(dx, dy) / Math.max(dt, 0.001) > 420) p.trail.push({ x: p.x, y: p.y, at: now });
		}
		this.effects = this.effects.filter(e => now - e.at < e.life);
		for (const e of this.effects) {
			e.x += e.vx * dt;
			e.y += e.vy * dt;
		}
	}

	predict(p, dt, wish) {
		const { speed, grip, ticks, width, height, radius } = this.rules;
		if (!(p.flags & DASHING)) {
			const part = 1 - Math.pow(1 - grip, dt * ticks);
			p.vx += (wish.x * speed - p.vx) * part;
			p.vy += (wish.y * speed - p.vy) * part;
		}
		p.x = Math.max(radius, Math.min(width - radius, p.x + p.vx * dt));
		p.y = Math.max(radius, Math.min(height - radius, p.y + p.vy * dt));
	}

	interpolate(p, at) {
		const past = p.past;
		while (past.length > 2 && past[1].at <= at) past.shift();
		const [a, b] = past;
		if (!a) return; // announced, not placed yet
		if (!b || at <= a.at) {
			Object.assign(p, { x: a.x, y: a.y });
			return;
		}
		const part = Math.min((at - a.at) / (b.at - a.at), 1.5); // goes on a bit when one is late
		p.x = a.x + (b.x - a.x) * part;
		p.y = a.y + (b.y - a.y) * part;
	}
}
