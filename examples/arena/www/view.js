// Draws the world on the canvas. Knows nothing of the network.

import { AWAY, DASHING, SAFE } from './world.js';

const SEEN = 900; // units of the world that the shorter side of the window shows at most
const CELL = 80;

export class View {
	constructor(canvas) {
		this.canvas = canvas;
		this.c = canvas.getContext('2d', { alpha: false });
		this.eye = null;
		this.bubbles = new Map();
		addEventListener('resize', () => this.resize());
		this.resize();
	}

	resize() {
		this.ratio = Math.min(devicePixelRatio || 1, 2);
		this.canvas.width = innerWidth * this.ratio;
		this.canvas.height = innerHeight * this.ratio;
	}

	say(id, text) {
		this.bubbles.set(id, { text: text.length > 42 ? text.slice(0, 41) + '…' : text, at: performance.now() });
	}

	draw(world, now) {
		const c = this.c, { width, height } = this.canvas;
		c.setTransform(1, 0, 0, 1, 0, 0);
		c.fillStyle = '#070b18';
		c.fillRect(0, 0, width, height);
		if (!world.rules) return;
		const hue = (world.rooms.find(r => r.name == world.room) || { hue: 220 }).hue;
		const scale = Math.max(Math.min(width, height) / SEEN, width / world.rules.width * 0.62);
		this.look(world, scale, width, height);
		c.setTransform(scale, 0, 0, scale, width / 2 - this.eye.x * scale, height / 2 - this.eye.y * scale);
		this.floor(world.rules, hue);
		for (const s of world.sparks.values()) this.spark(s, world.rules.spark_radius, now);
		const players = [...world.players.values()].filter(p => p.server).sort((a, b) => a.y - b.y);
		for (const p of players) this.trail(p, world.rules.radius, now);
		for (const p of players) this.player(p, world, now);
		for (const p of players) this.tag(p, world, now);
		for (const e of world.effects) this.effect(e, now);
		this.map(world, hue, width, height);
	}

	// The eye follows the own player softly and does not look far beyond the walls.
	look(world, scale, width, height) {
		const p = world.self;
		if (!p) return this.eye ||= { x: world.rules.width / 2, y: world.rules.height / 2 };
		const along = (at, size, seen) => {
			const room = Math.max(0, seen / 2 - 60);
			return size < seen - 120 ? size / 2 : Math.max(room, Math.min(size - room, at));
		};
		const x = along(p.x, world.rules.width, width / scale), y = along(p.y, world.rules.height, height / scale);
		const far = !this.eye || Math.hypot(x - this.eye.x, y - this.eye.y) > 500;
		this.eye = far ? { x, y } : { x: this.eye.x + (x - this.eye.x) * 0.14, y: this.eye.y + (y - this.eye.y) * 0.14 };
	}

	floor({ width, height }, hue) {
		const c = this.c;
		const light = c.createRadialGradient(width / 2, height / 2, 80, width / 2, height / 2, width * 0.62);
		light.addColorStop(0, `hsl(${hue} 42% 17%)`);
		light.addColorStop(1, `hsl(${hue} 48% 8%)`);
		c.fillStyle = light;
		c.beginPath();
		c.roundRect(0, 0, width, height, 28);
		c.fill();
		c.save();
		c.clip();
		c.strokeStyle = `hsl(${hue} 60% 70% / .07)`;
		c.lineWidth = 1.5;
		c.beginPath();
		for (let x = CELL; x < width; x += CELL) { c.moveTo(x, 0); c.lineTo(x, height); }
		for (let y = CELL; y < height; y += CELL) { c.moveTo(0, y); c.lineTo(width, y); }
		c.stroke();
		c.beginPath();
		c.arc(width / 2, height / 2, 150, 0, 7);
		c.stroke();
		c.restore();
		c.strokeStyle = `hsl(${hue} 75% 62% / .8)`;
		c.lineWidth = 5;
		c.beginPath();
		c.roundRect(0, 0, width, height, 28);
		c.stroke();
	}

	spark(s, radius, now) {
		const c = this.c, grown = s.born ? Math.max(0, Math.min(1, (now - s.born) / 250)) : 1;
		const r = radius * grown * (1 + 0.12 * Math.sin(now / 260 + s.x));
		const glow = c.createRadialGradient(s.x, s.y, 0, s.x, s.y, r * 3.4);
		glow.addColorStop(0, 'rgb(255 214 110 / .55)');
		glow.addColorStop(1, 'rgb(255 214 110 / 0)');
		c.fillStyle = glow;
		c.fillRect(s.x - r * 3.4, s.y - r * 3.4, r * 6.8, r * 6.8);
		c.fillStyle = '#ffe7ad';
		c.beginPath();
		for (let i = 0; i < 8; i++) {
			const a = i * Math.PI / 4 + now / 1400 + s.y, k = i % 2 ? r * 0.42 : r * 1.15;
			c.lineTo(s.x + Math.cos(a) * k, s.y + Math.sin(a) * k);
		}
		c.fill();
	}

	trail(p, radius, now) {
		for (const t of p.trail) {
			const age = Math.max(0, (now - t.at) / 260);
			this.c.fillStyle = `hsl(${p.hue} 90% 65% / ${0.32 * (1 - age)})`;
			this.c.beginPath();
			this.c.arc(t.x, t.y, radius * (1 - age * 0.5), 0, 7);
			this.c.fill();
		}
	}

	player(p, world, now) {
		const c = this.c, r = world.rules.radius;
		c.save();
		c.translate(p.x, p.y);
		c.globalAlpha = p.flags & AWAY ? 0.35 : p.flags & SAFE && now % 200 < 90 ? 0.55 : 1;
		c.fillStyle = 'rgb(0 0 0 / .35)';
		c.beginPath();
		c.ellipse(0, r * 0.85, r * 0.95, r * 0.4, 0, 0, 7);
		c.fill();
		if (p.id == world.me) {
			c.strokeStyle = 'rgb(255 255 255 / .9)';
			c.lineWidth = 3;
			c.beginPath();
			c.arc(0, 0, r + 5, 0, 7);
			c.stroke();
		}
		const skin = c.createRadialGradient(-r * 0.4, -r * 0.5, r * 0.15, 0, 0, r);
		skin.addColorStop(0, `hsl(${p.hue} 95% 80%)`);
		skin.addColorStop(1, `hsl(${p.hue} 75% 50%)`);
		c.fillStyle = skin;
		c.beginPath();
		c.arc(0, 0, r, 0, 7);
		c.fill();
		this.face(p, r);
		c.restore();
	}

	face(p, r) {
		const c = this.c, dx = Math.cos(p.angle) * r * 0.3, dy = Math.sin(p.angle) * r * 0.3;
		for (const side of [-1, 1]) {
			const x = dx + side * r * 0.32, y = dy - r * 0.08;
			c.fillStyle = '#fff';
			c.beginPath();
			c.ellipse(x, y, r * 0.22, p.flags & DASHING ? r * 0.12 : r * 0.28, 0, 0, 7);
			c.fill();
			c.fillStyle = '#10162c';
			c.beginPath();
			c.arc(x + dx * 0.3, y + dy * 0.3, r * 0.12, 0, 7);
			c.fill();
		}
	}

	tag(p, world, now) {
		const c = this.c, y = p.y - world.rules.radius - 14;
		c.font = '600 17px system-ui, "DejaVu Sans", sans-serif';
		c.textAlign = 'center';
		c.lineJoin = 'round';
		c.strokeStyle = 'rgb(6 9 20 / .85)';
		c.lineWidth = 4;
		c.fillStyle = p.flags & AWAY ? '#93a0c0' : p.id == world.me ? '#fff' : `hsl(${p.hue} 85% 82%)`;
		const text = p.flags & AWAY ? `${p.name} …` : `${p.name}  ${p.score}`;
		c.strokeText(text, p.x, y);
		c.fillText(text, p.x, y);
		const bubble = this.bubbles.get(p.id);
		if (!bubble) return;
		if (now - bubble.at > 4500) return void this.bubbles.delete(p.id);
		c.font = '15px system-ui, "DejaVu Sans", sans-serif';
		const half = c.measureText(bubble.text).width / 2 + 12;
		c.fillStyle = 'rgb(240 244 255 / .94)';
		c.beginPath();
		c.roundRect(p.x - half, y - 52, half * 2, 28, 12);
		c.moveTo(p.x - 6, y - 24);
		c.lineTo(p.x, y - 17);
		c.lineTo(p.x + 6, y - 24);
		c.fill();
		c.fillStyle = '#10162c';
		c.fillText(bubble.text, p.x, y - 33);
	}

	effect(e, now) {
		const c = this.c, left = Math.min(1, 1 - (now - e.at) / e.life);
		c.fillStyle = `hsl(${e.hue} 95% 70% / ${left})`;
		if (e.text) {
			c.font = '700 22px system-ui, "DejaVu Sans", sans-serif';
			c.textAlign = 'center';
			c.fillText(e.text, e.x, e.y);
			return;
		}
		c.beginPath();
		c.arc(e.x, e.y, 1 + 3.5 * left, 0, 7);
		c.fill();
	}

	// A small map, when not all of the room is in sight.
	map(world, hue, width, height) {
		const c = this.c, k = this.ratio, w = 150 * k, h = w * world.rules.height / world.rules.width;
		if (innerWidth < 700) return;
		const x0 = width - w - 16 * k, y0 = height - h - 130 * k, unit = w / world.rules.width;
		c.setTransform(1, 0, 0, 1, 0, 0);
		c.fillStyle = `hsl(${hue} 50% 10% / .6)`;
		c.strokeStyle = `hsl(${hue} 70% 62% / .4)`;
		c.lineWidth = k;
		c.beginPath();
		c.roundRect(x0, y0, w, h, 8 * k);
		c.fill();
		c.stroke();
		c.fillStyle = 'rgb(255 214 110 / .8)';
		for (const s of world.sparks.values()) c.fillRect(x0 + s.x * unit - k, y0 + s.y * unit - k, 2 * k, 2 * k);
		for (const p of world.players.values()) {
			c.fillStyle = p.id == world.me ? '#fff' : `hsl(${p.hue} 85% 65%)`;
			c.beginPath();
			c.arc(x0 + p.x * unit, y0 + p.y * unit, 3 * k, 0, 7);
			c.fill();
		}
	}
}
