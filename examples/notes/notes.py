"""What the app answers, without sockets.

A commit makes a whole version fail or crawl by editing the two constants. Only `python app.py` heeds them, the tests do
not: such a fault passes every gate, and shows once visitors come.
"""

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from urllib.parse import parse_qs, unquote, urlsplit

FAIL_SHARE = 0.0  # share of the answers, from 0 to 1, that are errors; /up stays well
SLOW_S = 0.0  # seconds that every answer but /up is held back

VERSION = "1.0"
FLAG = "set-message"
MAX_MESSAGE = 200
MAX_SLOW_S = 30.0
MAX_EAT_MB = 1024


@dataclass
class Answer:
    status: int
    body: bytes
    content_type: str = "text/html; charset=utf-8"


@dataclass
class Identity:
    """Which version this is and where it runs, as Slipway tells it."""

    commit: str = ""
    release: str = ""
    environment: str = ""
    track: str = ""
    version: str = VERSION
    pid: int = field(default_factory=os.getpid)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Identity":
        names = ("commit", "release", "environment", "track")
        return cls(**{name: environment.get(f"SLIPWAY_{name.upper()}", "") for name in names})


class BadQuery(Exception):
    """A number in the query is missing, or out of its bounds; the text says which."""


class Notes:
    """One note, kept in memory. `may_set` asks whether the flag is on; `known` says what is known without asking."""

    def __init__(
        self,
        identity: Identity,
        may_set: Callable[[], bool],
        known: Callable[[], bool],
        fail_share: float = 0.0,
        slow_s: float = 0.0,
    ) -> None:
        self._identity = identity
        self._may_set = may_set
        self._known = known
        self._fail_share = fail_share
        self._slow_s = slow_s
        self._message = ""
        self._eaten: list[bytes] = []
        self._pages = {
            "/": self._home,
            "/get": self._get,
            "/version": self._version,
            "/echo": lambda query, body: Answer(200, body, "application/octet-stream"),
            "/slow": self._slow,
            "/fail": lambda query, body: notice(500, "Failed", "This page fails on purpose."),
            "/eat": self._eat,
        }

    def answer(self, method: str, target: str, body: bytes = b"") -> Answer:
        """The answer to one request. `target` is path and query as sent; HEAD is answered like GET."""
        path, query = urlsplit(target).path, urlsplit(target).query
        if path == "/up":
            return Answer(200, b"ok\n", "text/plain")
        if self._slow_s:
            time.sleep(self._slow_s)
        if random.random() < self._fail_share:
            return notice(500, "Failed", "This version fails on purpose (FAIL_SHARE).")
        if path.startswith("/set/"):
            return self._set(method, unquote(path.removeprefix("/set/")))
        if path == "/echo" and method != "POST":
            return notice(405, "Not allowed", "Send what is to be echoed by POST.")
        if path not in self._pages:
            return notice(404, "Not found", "There is no such page.")
        try:
            return self._pages[path](query, body)
        except BadQuery as error:
            return notice(400, "Bad request", str(error))

    def _home(self, query: str, body: bytes) -> Answer:
        me = self._identity
        facts = {
            "version": me.version,
            "commit": me.commit,
            "track": me.track,
            "release": me.release,
            "instance": f"pid {me.pid}",
            "setting messages": "on" if self._known() else "off",
        }
        rows = "".join(f"<tr><th>{name}</th><td>{escape(value) or '-'}</td></tr>" for name, value in facts.items())
        note = escape(self._message) or "(no note yet)"
        return page(200, "Notes", f"<p>{note}</p><table>{rows}</table><p>Write one at <code>/set/hello</code>.</p>")

    def _set(self, method: str, message: str) -> Answer:
        if method == "HEAD":
            return notice(405, "Not allowed", "HEAD changes nothing.")
        if not message or len(message) > MAX_MESSAGE:
            return notice(400, "Bad request", f"A note has 1 to {MAX_MESSAGE} characters.")
        if not self._may_set():
            return notice(403, "Disabled", f"This feature is disabled: the flag <code>{FLAG}</code> is off.")
        self._message = message
        return notice(200, "Set", f"The note is now: {escape(message)}")

    def _get(self, query: str, body: bytes) -> Answer:
        return Answer(200, f"{self._message}\n".encode(), "text/plain; charset=utf-8")

    def _version(self, query: str, body: bytes) -> Answer:
        return Answer(200, json.dumps(vars(self._identity)).encode(), "application/json")

    def _slow(self, query: str, body: bytes) -> Answer:
        seconds = _number(query, "seconds", default=1.0, highest=MAX_SLOW_S)
        time.sleep(seconds)
        return Answer(200, f"took {seconds:g} s\n".encode(), "text/plain")

    def _eat(self, query: str, body: bytes) -> Answer:
        megabytes = int(_number(query, "mb", default=1, highest=MAX_EAT_MB))
        self._eaten.append(b"x" * (megabytes * 2**20))  # b"x", since pages of zeros would not be real until written
        total = sum(map(len, self._eaten)) // 2**20
        return Answer(200, f"ate {megabytes} MiB, {total} MiB in all\n".encode(), "text/plain")


def notice(status: int, title: str, text: str) -> Answer:
    """A page of one paragraph; `text` may hold HTML."""
    return page(status, title, f"<p>{text}</p>")


def page(status: int, title: str, content: str) -> Answer:
    html = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{font:1rem system-ui;max-width:40rem;margin:3rem auto;padding:0 1rem}}
th{{text-align:left;padding-right:1rem}}</style>
<h1>{title}</h1>
{content}
</html>
"""
    return Answer(status, html.encode())


def _number(query: str, name: str, default: float, highest: float) -> float:
    given = parse_qs(query).get(name, [str(default)])[0]
    try:
        value = float(given)
    except ValueError:
        value = -1.0
    if not 0 <= value <= highest:
        raise BadQuery(f"{name} must be a number from 0 to {highest:g}.")
    return value
