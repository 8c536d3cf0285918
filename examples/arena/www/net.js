// The connection: opens the socket, keeps it open, tells how it is.
//
// States: connecting, open, lost (tries again by itself), ended (does not). The token that
// the server gives is kept for the tab, so that a reload or a lost connection comes back
// to the same player.

const FIRST_WAIT = 400, LONGEST_WAIT = 6000; // ms between attempts
const PING_EVERY = 2000;
const SILENCE = 9000; // ms without a message: the connection is dead
const REPLACED = 4001, BAD_MESSAGE = 4002;
const TOKEN = 'arena.token';

export class Link extends EventTarget {
	constructor() {
		super();
		this.state = 'idle';
		this.ping = null;
		this.retryAt = 0;
		this.wait = FIRST_WAIT;
		addEventListener('online', () => this.state == 'lost' && this.open());
		setInterval(() => this.beat(), PING_EVERY);
	}

	// `wanted`: function that gives { name, room } at each attempt.
	start(wanted) {
		this.wanted = wanted;
		this.open();
	}

	become(state) {
		this.state = state;
		this.dispatchEvent(new Event('state'));
	}

	async open() {
		clearTimeout(this.timer);
		this.become('connecting');
		const attempt = this.attempt = {};
		try {
			const answer = await fetch('config.json');
			const port = (await answer.json()).port;
			if (attempt !== this.attempt) return;
			const query = new URLSearchParams(this.wanted());
			const token = sessionStorage.getItem(TOKEN);
			if (token) query.set('token', token);
			const scheme = location.protocol == 'https:' ? 'wss:' : 'ws:';
			this.attach(new WebSocket(`${scheme}//${location.hostname}:${port}/ws?${query}`));
		} catch {
			if (attempt === this.attempt) this.retry();
		}
	}

	attach(socket) {
		this.socket = socket;
		this.heard = performance.now();
		socket.onmessage = event => {
			if (socket !== this.socket) return;
			this.heard = performance.now();
			this.take(JSON.parse(event.data));
		};
		socket.onclose = event => {
			if (socket !== this.socket) return;
			this.socket = null;
			if (event.code == REPLACED || event.code == BAD_MESSAGE) {
				this.reason = event.reason;
				this.become('ended');
			} else {
				this.retry();
			}
		};
	}

	take(message) {
		if (message.t == 'hello') {
			sessionStorage.setItem(TOKEN, message.token);
			this.wait = FIRST_WAIT;
			if (this.state != 'open') this.become('open');
			this.beat();
		} else if (message.t == 'pong') {
			this.ping = Math.round(performance.now() - message.c);
			this.dispatchEvent(new Event('state'));
			return;
		}
		this.dispatchEvent(new MessageEvent('message', { data: message }));
	}

	retry() {
		this.retryAt = performance.now() + this.wait;
		this.timer = setTimeout(() => this.open(), this.wait);
		this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
		this.become('lost');
	}

	// Drops a connection that says nothing any more, as a sleeping phone leaves it.
	beat() {
		if (!this.socket || this.state != 'open') return;
		if (performance.now() - this.heard > SILENCE) {
			const dead = this.socket;
			this.socket = null;
			dead.close();
			this.retry();
		} else {
			this.send({ t: 'ping', c: performance.now() });
		}
	}

	send(message) {
		if (this.socket && this.socket.readyState == WebSocket.OPEN) {
			this.socket.send(JSON.stringify(message));
		}
	}
}
