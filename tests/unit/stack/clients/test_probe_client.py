"""The outside client classifies a server's answers."""

import json
import time

import pytest

from stack.clients.probe_client import probe, tracks_of_new_visitors, wait_for, wait_for_commit
from tests.support.ports import free_port
from tests.support.stack.misbehaving import Reply, Request, good, http, serving


def test_looks_without_a_cookie_at_the_host_it_is_told() -> None:
    with serving(lambda request: good(request, track="canary")) as server:
        seen = probe(server.url, "/version", "notes.localhost")
    assert (seen.status, seen.track, seen.commit) == (200, "canary", "c" * 40)
    assert server.requests[0].headers["host"] == "notes.localhost"
    assert "cookie" not in server.requests[0].headers


def test_no_answer_is_not_an_answer() -> None:
    seen = probe(f"http://127.0.0.1:{free_port()}", "/version")
    assert (seen.status, seen.track, seen.commit) == (0, "", "")


def test_waits_until_the_commit_is_there() -> None:
    def later(request: Request) -> Reply:
        return Reply(http(json.dumps({"commit": "new" if request.number == 3 else "old"}).encode()))

    with serving(later) as server:
        assert wait_for_commit(server.url, "new", timeout_s=5) > 0
    assert len(server.requests) == 4


def test_a_commit_that_never_comes_is_named() -> None:
    with serving(good) as server, pytest.raises(TimeoutError, match="dddddddd on http"):
        wait_for_commit(server.url, "d" * 40, timeout_s=0.05)


def test_what_takes_long_to_check_is_checked_seldom() -> None:
    checks = 0

    def condition() -> bool:
        nonlocal checks
        checks += 1
        time.sleep(0.02)
        return False

    with pytest.raises(TimeoutError, match=r"the moon: not within 0\.3 s"):
        wait_for(condition, "the moon", 0.3)
    assert checks <= 5, "a check every 100 ms, not every 30"


def test_counts_the_tracks_of_new_visitors() -> None:
    def third_canary(request: Request) -> Reply:
        if request.number == 0:
            return Reply(http(b"", status=503))
        if request.number == 1:
            return Reply(b"", close=True)
        reply = good(request, track="canary" if request.number % 3 == 0 else "stable")
        return Reply(reply.data.replace(b"\r\n\r\n", b"\r\nset-cookie: seat=1\r\n\r\n", 1))

    with serving(third_canary) as server:
        seen = tracks_of_new_visitors(server.url, 90, concurrency=4)
    assert seen == {"canary": 29, "stable": 59, "lost": 2}
    assert not any("cookie" in request.headers for request in server.requests)
