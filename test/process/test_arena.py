"""The example game for browsers, as players see it: pages in a headless Chromium."""

from browser import Browser
from harness import OUT, ROOT, Node

CONFIG = f"""
include "{ROOT}/examples/config.arena"
cpath = "{OUT}/cservice/?.so"
lua_cpath = "{OUT}/luaclib/?.so"
arena_port = 0
arena_gate_port = 0
"""

OPEN = "arena.link.state == 'open' && arena.world.self"


class Arena(Node):
    def __init__(self, more=""):
        super().__init__(CONFIG + more, standard=False, cwd=ROOT)
        self.url = self.wait_for(r"The arena is open: (\S+)$").group(1)


def player(name):
    """JavaScript that finds a player by name."""
    return f"[...arena.world.players.values()].find(p => p.name == '{name}')"


def place(b, name):
    return b.run(f"const p = {player(name)}; return [p.x, p.y]")


def test_two_pages_play():
    with Arena("arena_grace = 30000\n") as n, Browser(size=(640, 480)) as b:
        b.open(n.url)
        assert b.run("return document.getElementById('door').checkVisibility()")
        ann = b.window()
        b.run("document.getElementById('name').value = 'Ann'; document.querySelector('#enter button').click()")
        b.wait_for(OPEN)
        assert b.run("return document.getElementById('status').dataset.state") == "open"
        bob = b.new_window(n.url + "?name=Bob&room=meadow")
        b.wait_for(OPEN)
        b.wait_for(player("Ann"))
        b.switch(ann)
        b.wait_for(player("Bob"))

        # Bob runs to the right wall; both pages see him arrive at the same place.
        b.switch(bob)
        b.key("d")
        b.wait_for(f"{player('Bob')}.x > arena.world.rules.width - 30")
        b.switch(ann)
        b.wait_for(f"{player('Bob')}.x > arena.world.rules.width - 30")
        b.switch(bob)
        b.key("d", down=False)
        y = b.wait_for(f"Math.hypot({player('Bob')}.vx, {player('Bob')}.vy) < 1 && {player('Bob')}.server.y")
        b.switch(ann)
        b.wait_for(f"Math.abs({player('Bob')}.y - {y}) < 3")

        # A dash is faster than a run. A line of chat.
        b.switch(bob)
        b.key("a")
        b.wait_for(f"{player('Bob')}.flags & 8 && {player('Bob')}.vx < -200")
        b.run("window.fastest = 0; arena.link.addEventListener('message', ({ data }) => { if (data.t == 's')"
              "for (const [id, , , vx, vy] of data.p) if (id == arena.world.me) fastest = Math.max(fastest, Math.hypot(vx, vy)); })")
        b.key(" ")
        b.wait_for("fastest > 500")
        b.key(" ", down=False)
        b.key("a", down=False)
        b.run("document.getElementById('text').value = 'good <b>game</b>';"
              "document.getElementById('say').requestSubmit()")
        b.switch(ann)
        b.wait_for("document.getElementById('lines').innerText.includes('Bob: good <b>game</b>')")

        # Sparks are worth something.
        b.run("window.hunt = setInterval(() => { const w = arena.world, me = w.self; let best, d = 1e9;"
              "for (const s of w.sparks.values()) { const e = Math.hypot(s.x - me.x, s.y - me.y); if (e < d) [best, d] = [s, e]; }"
              "if (best) arena.link.send({ t: 'input', x: (best.x - me.x) / d, y: (best.y - me.y) / d }); }, 60)")
        score = b.wait_for("arena.world.self.score > 1 && arena.world.self.score")
        b.run("clearInterval(window.hunt); arena.link.send({ t: 'input', x: 0, y: 0 })")

        comes_back(b, ann, bob, n, score)
        assert not [line for line in b.log() if "Uncaught" in line]


def comes_back(b, ann, bob, n, score):
    """Lost, reloaded, replaced, in another room: Ann stays Ann."""
    me = b.run("return arena.world.me")
    b.run("window.states = []; arena.link.addEventListener('state', () => states.push(arena.link.state));"
          "arena.link.socket.close()")
    b.wait_for("states.includes('lost') && states.at(-1) == 'open'")
    assert b.run("return arena.world.me") == me
    assert b.run("return arena.world.self.score") >= score
    b.open(n.url + "?name=Ann")
    b.wait_for(OPEN)
    assert b.run("return arena.world.me") == me
    assert b.run("return arena.world.self.score") >= score
    b.switch(bob)
    assert b.run(f"return [...arena.world.players.values()].filter(p => p.name == 'Ann').length") == 1

    # Another room: gone from here, new there.
    b.switch(ann)
    b.run("[...document.querySelectorAll('#rooms button')].find(b => b.textContent == 'Ember').click()")
    b.wait_for("arena.world.room == 'ember' && arena.world.self && arena.world.players.size == 1")
    b.switch(bob)
    b.wait_for(f"!{player('Ann')}")

    # The same token in a second page: the first one ends, and does not fight for it.
    b.switch(ann)
    token = b.run("return sessionStorage.getItem('arena.token')")
    second = b.new_window(n.url)
    b.run("sessionStorage.setItem('arena.token', arguments[0])", token)
    b.open(n.url + "?name=Ann&room=ember")
    b.wait_for(OPEN)
    b.switch(ann)
    b.wait_for("arena.link.state == 'ended'")
    b.switch(second)
    b.wait_for(OPEN)


def test_who_does_not_come_back_leaves():
    with Arena("arena_grace = 30\n") as n, Browser(size=(640, 480)) as b:
        b.open(n.url + "?name=Ann")
        b.wait_for(OPEN)
        ann = b.window()
        b.new_window(n.url + "?name=Bob")
        b.wait_for(OPEN)
        b.run("arena.link.retry = () => {}; arena.link.socket.close()")
        b.switch(ann)
        b.wait_for(f"!{player('Bob')}")
        b.wait_for("document.getElementById('lines').innerText.includes('Bob left')")

        # What is no message of the game ends the connection; others play on.
        b.new_window(n.url + "?name=Mallory")
        b.wait_for(OPEN)
        b.run("for (const text of ['[1]', '{\"t\":\"input\",\"x\":1e999,\"y\":[]}', '{\"t\":\"chat\",\"text\":7}',"
              "'{\"t\":\"room\",\"name\":{}}']) arena.link.socket.send(text)")
        b.wait_for("arena.link.state == 'ended' && arena.link.reason")
        b.switch(ann)
        b.touch((320, 140), (320, 200))
        b.wait_for("arena.world.self.server.y > arena.world.rules.height - 30")
        b.release()
        b.wait_for("Math.abs(arena.world.self.vy) < 1")

        # The server ends: the page says so and keeps trying.
        assert n.stop() == 0
        b.wait_for("document.getElementById('status').dataset.state == 'lost'")
        assert "stack traceback" not in n.text, n.text
