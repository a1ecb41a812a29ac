"""What the outside client makes of a server's answers."""

import json

import pytest

from stack.clients.probe_client import look, tracks_of_new_visitors, wait_for_commit
from tests.support.ports import free_port
from tests.support.stack.misbehaving import Asked, Told, good, http, serving


def test_looks_without_a_cookie_at_the_host_it_is_told() -> None:
    with serving(lambda asked: good(asked, track="canary")) as server:
        seen = look(server.url, "/version", "notes.localhost")
    assert (seen.status, seen.track, seen.commit) == (200, "canary", "c" * 40)
    assert server.asked[0].headers["host"] == "notes.localhost"
    assert "cookie" not in server.asked[0].headers


def test_no_answer_is_not_an_answer() -> None:
    seen = look(f"http://127.0.0.1:{free_port()}", "/version")
    assert (seen.status, seen.track, seen.commit) == (0, "", "")


def test_waits_until_the_commit_is_there() -> None:
    def later(asked: Asked) -> Told:
        return Told(http(json.dumps({"commit": "new" if asked.number == 3 else "old"}).encode()))

    with serving(later) as server:
        assert wait_for_commit(server.url, "new", timeout_s=5) > 0
    assert len(server.asked) == 4


def test_a_commit_that_never_comes_is_named() -> None:
    with serving(good) as server, pytest.raises(TimeoutError, match="dddddddd on http"):
        wait_for_commit(server.url, "d" * 40, timeout_s=0.05)


def test_counts_the_tracks_of_new_visitors() -> None:
    def third_canary(asked: Asked) -> Told:
        if asked.number == 0:
            return Told(http(b"", status=503))
        if asked.number == 1:
            return Told(b"", close=True)
        told = good(asked, track="canary" if asked.number % 3 == 0 else "stable")
        return Told(told.data.replace(b"\r\n\r\n", b"\r\nset-cookie: seat=1\r\n\r\n", 1))

    with serving(third_canary) as server:
        seen = tracks_of_new_visitors(server.url, 90, concurrency=4)
    assert seen == {"canary": 29, "stable": 59, "lost": 2}
    assert not any("cookie" in asked.headers for asked in server.asked)
