"""A headless Chromium for tests, driven by chromedriver's WebDriver HTTP API.

Browser owns one chromedriver process, one browser and one profile folder; leaving its
context ends and removes all three. Pages may talk to the loopback interface only.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from harness import LIMIT, free_port

ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--disable-default-apps", "--disable-extensions",
    # Several pages are looked at at once.
    "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


class BrowserError(AssertionError):
    """What chromedriver says about a failed command."""


class Browser:
    """A running browser with one page. size: (width, height) of its windows."""

    def __init__(self, size=(1000, 700), args=()):
        self.dir = tempfile.mkdtemp(prefix="skynet-browser-")
        self.session = None
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        env = dict(os.environ, HOME=self.dir, XDG_CONFIG_HOME=self.dir, XDG_CACHE_HOME=self.dir)
        self.driver = subprocess.Popen(["chromedriver", f"--port={port}"], env=env, cwd=self.dir,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        try:
            self._await_driver()
            options = {"args": ARGS + [f"--user-data-dir={self.dir}/profile",
                                       f"--window-size={size[0]},{size[1]}"] + list(args)}
            for name in ("chromium", "chromium-browser", "google-chrome"):
                path = shutil.which(name)
                if path:
                    options["binary"] = path
                    break
            caps = {"browserName": "chrome", "goog:chromeOptions": options,
                    "timeouts": {"script": LIMIT * 1000},
                    "goog:loggingPrefs": {"browser": "ALL"}}
            answer = self._http("POST", "/session", {"capabilities": {"alwaysMatch": caps}})
            self.session = answer["sessionId"]
        except BaseException:
            self.close()
            raise

    def _http(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"},
                                         method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT * 2) as f:
                return json.load(f)["value"]
        except urllib.error.HTTPError as e:
            raise BrowserError(f"{path}: {json.load(e)['value'].get('message')}") from None

    def _await_driver(self):
        end = time.monotonic() + LIMIT
        while True:
            try:
                if self._http("GET", "/status")["ready"]:
                    return
            except OSError:
                pass
            if time.monotonic() > end or self.driver.poll() is not None:
                raise BrowserError("chromedriver does not answer")
            time.sleep(0.05)

    def _do(self, method, path, body=None):
        return self._http(method, f"/session/{self.session}{path}", body)

    def open(self, url):
        """Load a page in the current window."""
        self._do("POST", "/url", {"url": url})

    def new_window(self, url):
        """Open a page in a window of its own and go there; its handle."""
        handle = self._do("POST", "/window/new", {"type": "window"})["handle"]
        self.switch(handle)
        self.open(url)
        return handle

    def window(self):
        """Handle of the current window."""
        return self._do("GET", "/window")

    def switch(self, handle):
        self._do("POST", "/window", {"handle": handle})

    def run(self, script, *args):
        """Run JavaScript (`return` gives the result)."""
        return self._do("POST", "/execute/sync", {"script": script, "args": list(args)})

    def run_async(self, body, *args):
        """Run the body of an async JavaScript function, with `args`; what it returns."""
        script = ("const done = arguments[arguments.length - 1];"
                  "(async (args) => {" + body + "})(Array.from(arguments).slice(0, -1))"
                  ".then(v => done([true, v]), e => done([false, String(e && e.stack || e)]));")
        ok, value = self._do("POST", "/execute/async", {"script": script, "args": list(args)})
        if not ok:
            raise BrowserError(value)
        return value

    def wait_for(self, expression, limit=LIMIT):
        """Wait until a JavaScript expression is true in the page; its value."""
        end = time.monotonic() + limit
        while True:
            value = self.run(f"return ({expression})")
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"waited in vain for {expression}; log: {self.log()}")
            time.sleep(0.03)

    def key(self, key, down=True):
        """Press (or release) a key, e.g. "d" or "\\ue006" for Enter."""
        self._do("POST", "/actions", {"actions": [
            {"type": "key", "id": "keyboard",
             "actions": [{"type": "keyDown" if down else "keyUp", "value": key}]}]})

    def touch(self, *points):
        """Put a finger down at the first point (x, y) and move it along the others."""
        x, y = points[0]
        steps = [{"type": "pointerMove", "x": x, "y": y}, {"type": "pointerDown", "button": 0}]
        steps += [{"type": "pointerMove", "duration": 50, "x": a, "y": b} for a, b in points[1:]]
        self._do("POST", "/actions", {"actions": [
            {"type": "pointer", "id": "finger", "parameters": {"pointerType": "touch"},
             "actions": steps}]})

    def release(self):
        """Lift the finger, release the keys."""
        self._do("DELETE", "/actions")

    def screenshot(self, path):
        """A PNG of the current window."""
        with open(path, "wb") as f:
            f.write(base64.b64decode(self._do("GET", "/screenshot")))

    def log(self):
        """What the page wrote to its console since the last call."""
        return [e["message"] for e in self._do("POST", "/se/log", {"type": "browser"})]

    def close(self):
        if self.session:
            try:
                self._do("DELETE", "")
            except (OSError, BrowserError):
                pass
        self.driver.terminate()
        try:
            self.driver.wait(10)
        except subprocess.TimeoutExpired:
            self.driver.kill()
            self.driver.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
