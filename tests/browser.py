"""A headless browser for tests, driven by WebDriver BiDi: Firefox speaks it itself, Chromium through chromedriver."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

WAIT_S = 120.0  # software rendering on a busy machine
CHROMIUM = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--use-angle=swiftshader")
KEYS = {"ArrowUp": "\ue013", "ArrowDown": "\ue015", "ArrowLeft": "\ue012", "ArrowRight": "\ue014", "Tab": "\ue004"}


def missing(name: str) -> str:
    """Why this browser (chromium or firefox) cannot be used here; empty if it can."""
    programs = {"chromium": ["chromium", "chromedriver"], "firefox": ["firefox-esr", "Xvfb"]}[name]
    absent = [program for program in programs if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)} (Debian: chromium chromium-driver firefox-esr xvfb)" if absent else ""


class Browser:
    """One tab. ``lines``: what the page's console said."""

    def __init__(self, socket_url: str, new_session: bool) -> None:
        import websocket

        self.socket = websocket.create_connection(socket_url, timeout=WAIT_S, suppress_origin=True)
        self.count = 0
        self.lines: list[str] = []
        if new_session:
            self.do("session.new", capabilities={"alwaysMatch": {"unhandledPromptBehavior": {"default": "accept"}}})
        self.do("session.subscribe", events=["log.entryAdded"])
        self.tab = self.do("browsingContext.getTree")["contexts"][0]["context"]

    def do(self, method: str, **parameters: Any) -> Any:
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("method") == "log.entryAdded":
                self.lines.append(f"{answer['params']['level']}: {answer['params']['text']}")
            if answer.get("id") == self.count:
                if answer["type"] == "error":
                    raise RuntimeError(f"{method}: {answer['error']}: {answer['message']}")
                return answer["result"]

    def size(self, width: int, height: int) -> None:
        size = {"width": width, "height": height}
        self.do("browsingContext.setViewport", context=self.tab, viewport=size)

    def open(self, page: Path) -> None:
        self.do("browsingContext.navigate", context=self.tab, url=page.absolute().as_uri(), wait="complete")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, as JSON carries it."""
        wrapped = f"Promise.resolve({expression}).then((value) => JSON.stringify(value ?? null))"
        target = {"context": self.tab}
        done = self.do("script.evaluate", expression=wrapped, target=target, awaitPromise=True)
        if done["type"] == "exception":
            raise RuntimeError(done["exceptionDetails"]["text"])
        return json.loads(done["result"]["value"])

    def until(self, expression: str) -> Any:
        """The value of the expression as soon as it is true."""
        end = time.monotonic() + WAIT_S
        while not (value := self.run(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} is not true; console: {self.lines}")
            time.sleep(0.1)
        return value

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """A real click of the mouse at this share of the element's width and height."""
        element = f"document.querySelector({json.dumps(selector)})"
        frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        box: list[float] = []
        before: list[float] | None = None
        while box != before:  # a scroll to what was typed last may still be under way
            before = box
            box = self.run(
                f"({element}.scrollIntoView({{block: 'center'}}), {frames}).then(() => "
                f"(({{left, top, width, height}}) => [left, top, width, height])({element}.getBoundingClientRect()))"
            )
        at = {"x": round(box[0] + x * box[2]), "y": round(box[1] + y * box[3])}
        pointer = [
            {"type": "pointerMove", **at},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self._perform({"type": "pointer", "id": "mouse", "actions": pointer})

    def press(self, *keys: str) -> None:
        actions = []
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        self._perform({"type": "key", "id": "keyboard", "actions": actions})

    def _perform(self, source: dict[str, Any]) -> None:
        self.do("input.performActions", context=self.tab, actions=[source])

    def screenshot(self, path: Path, whole: bool = False) -> None:
        origin = "document" if whole else "viewport"
        shot = self.do("browsingContext.captureScreenshot", context=self.tab, origin=origin)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.do("browsingContext.print", context=self.tab, background=True)["data"]))


@contextmanager
def browser(name: str, folder: Path) -> Iterator[Browser]:
    """chromium or firefox with a new profile; downloads go to ``folder``."""
    opening = {"chromium": _chromium, "firefox": _firefox}[name]
    with opening(folder) as opened:
        try:
            yield opened
        finally:
            with suppress(Exception):
                opened.socket.close()


@contextmanager
def _chromium(folder: Path) -> Iterator[Browser]:
    port = _free_port()
    with _running(["chromedriver", f"--port={port}"], folder):
        options = {
            "args": [*CHROMIUM, "--enable-unsafe-swiftshader", f"--user-data-dir={folder / 'profile'}"],
            "prefs": {"download.default_directory": str(folder), "download.prompt_for_download": False},
        }
        wanted = {"browserName": "chrome", "webSocketUrl": True, "goog:chromeOptions": options}
        wanted["unhandledPromptBehavior"] = "accept"
        body = json.dumps({"capabilities": {"alwaysMatch": wanted}}).encode()
        session = _ask(port, "session", body)["value"]
        try:
            yield Browser(session["capabilities"]["webSocketUrl"], new_session=False)
        finally:
            with suppress(OSError):
                _ask(port, f"session/{session['sessionId']}", None, "DELETE")


@contextmanager
def _firefox(folder: Path) -> Iterator[Browser]:
    profile = folder / "profile"
    profile.mkdir(parents=True)
    preferences = {
        "browser.download.folderList": 2,
        "browser.download.dir": str(folder),
        "browser.shell.checkDefaultBrowser": False,
        "datareporting.policy.dataSubmissionEnabled": False,
        "webgl.force-enabled": True,
        "dom.disable_beforeunload": True,
    }
    lines = [f"user_pref({json.dumps(key)}, {json.dumps(value)});" for key, value in preferences.items()]
    (profile / "user.js").write_text("\n".join(lines) + "\n")
    port = _free_port()
    command = ["firefox-esr", "--no-remote", "--profile", str(profile), "--remote-debugging-port", str(port)]
    with _display(folder) as display, _running(command, folder, DISPLAY=display, LIBGL_ALWAYS_SOFTWARE="1"):
        _reachable(port)
        yield Browser(f"ws://127.0.0.1:{port}/session", new_session=True)


@contextmanager
def _display(folder: Path) -> Iterator[str]:
    """An X server without a screen: Firefox has no WebGL with --headless."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1400x1200x24"]
    with _running(command, folder, passed=(writing,)):
        os.close(writing)
        with os.fdopen(reading) as number:
            yield f":{number.readline().strip()}"


@contextmanager
def _running(command: list[str], folder: Path, passed: tuple[int, ...] = (), **environment: str) -> Iterator[None]:
    with (folder / f"{Path(command[0]).name}.log").open("w") as log:
        own = {**os.environ, **environment}
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=own, pass_fds=passed)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _reachable(port: int) -> None:
    end = time.monotonic() + WAIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _ask(port: int, path: str, body: bytes | None, method: str = "POST") -> Any:
    _reachable(port)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", body, method=method)
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        return json.load(answer)
