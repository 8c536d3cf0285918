// What the player wants: a vector no longer than 1 from keys or from a touch stick, and
// dashes.

const KEYS = {
	KeyW: [0, -1], ArrowUp: [0, -1], KeyS: [0, 1], ArrowDown: [0, 1],
	KeyA: [-1, 0], ArrowLeft: [-1, 0], KeyD: [1, 0], ArrowRight: [1, 0],
};
const REACH = 56; // px of the stick for full speed

export class Input {
	// `dash` and `chat` are called; `busy` tells that keys belong to a text field.
	constructor({ dash, chat, busy }) {
		this.held = new Set();
		this.touch = null;
		this.stick = document.getElementById('stick');
		addEventListener('keydown', e => {
			if (busy() || e.ctrlKey || e.metaKey || e.altKey) return;
			if (KEYS[e.code]) this.held.add(e.code);
			else if (e.code == 'Space') e.repeat || dash();
			else if (e.code == 'Enter') chat();
			else return;
			e.preventDefault();
		});
		addEventListener('keyup', e => this.held.delete(e.code));
		addEventListener('blur', () => this.held.clear());
		const button = document.getElementById('dash');
		button.addEventListener('pointerdown', e => { e.preventDefault(); dash(); });
		const stage = document.getElementById('stage');
		stage.addEventListener('pointerdown', e => this.grab(e));
		addEventListener('pointermove', e => this.drag(e));
		addEventListener('pointerup', e => this.drop(e));
		addEventListener('pointercancel', e => this.drop(e));
	}

	grab(e) {
		document.activeElement?.blur();
		if (this.touch || (e.pointerType == 'mouse' && e.button != 0)) return;
		this.touch = { id: e.pointerId, x0: e.clientX, y0: e.clientY, x: 0, y: 0 };
		this.stick.style.left = `${e.clientX}px`;
		this.stick.style.top = `${e.clientY}px`;
		this.stick.classList.add('held');
		this.show();
	}

	drag(e) {
		const t = this.touch;
		if (!t || e.pointerId != t.id) return;
		const dx = e.clientX - t.x0, dy = e.clientY - t.y0;
		const length = Math.hypot(dx, dy), scale = Math.max(length, REACH);
		Object.assign(t, length < 6 ? { x: 0, y: 0 } : { x: dx / scale, y: dy / scale });
		this.show();
	}

	drop(e) {
		if (!this.touch || e.pointerId != this.touch.id) return;
		this.touch = null;
		this.stick.classList.remove('held');
	}

	show() {
		const { x, y } = this.touch;
		this.stick.firstElementChild.style.transform = `translate(${x * REACH}px, ${y * REACH}px)`;
	}

	get wish() {
		if (this.touch && (this.touch.x || this.touch.y)) return { x: this.touch.x, y: this.touch.y };
		let x = 0, y = 0;
		for (const code of this.held) {
			x += KEYS[code][0];
			y += KEYS[code][1];
		}
		x = Math.sign(x);
		y = Math.sign(y);
		const length = Math.hypot(x, y) || 1;
		return { x: x / length, y: y / length };
	}
}
