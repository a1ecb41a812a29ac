"""The load's accounting, against a server that misbehaves on purpose: what was lost counts, and is never sent again."""

import asyncio
import threading
import time

import pytest

from stack.clients.load import Client, Load
from stack.clients.probe_client import wait_for
from tests.support.ports import free_port
from tests.support.stack.misbehaving import COMMIT, Behaviour, Reply, Request, good, http, serving

RATE = 400.0
SENT = 60


def load_of(url: str, host: str = "") -> Load:
    """An ended load of 60 requests. Slow ones are as quick as the others here: the server does not sleep."""
    load = Load(url, rate=RATE, host=host, limit_s=SENT / RATE)
    with load:
        wait_for(lambda: len(load.results) == SENT, "the end of all requests", 30)
    return load


def every_fifth(behaviour: Behaviour) -> Behaviour:
    return lambda request: behaviour(request) if request.number % 5 == 4 else good(request)


def test_nothing_is_lost_where_all_is_well() -> None:
    with serving(good) as server:
        summary = load_of(server.url).report()
    assert (summary.sent, summary.lost, summary.reasons) == (SENT, 0, [])
    assert summary.tracks == {"stable": SENT}
    assert summary.commits == {COMMIT: sum(request.path == "/version" for request in server.requests)}
    assert len(server.requests) == SENT


def test_the_mix_has_bodies_slow_answers_and_both_kinds_of_connection() -> None:
    with serving(good) as server:
        load_of(server.url)
    assert {request.path for request in server.requests} == {"/version", "/echo", "/slow?seconds=1"}
    connections = {request.connection for request in server.requests}
    assert 1 < len(connections) < SENT
    assert any(request.body for request in server.requests)


@pytest.mark.slow
def test_the_mix_can_do_without_slow_answers() -> None:
    with serving(good) as server:
        load = Load(server.url, rate=RATE, limit_s=1.0, slow_share=0)
        with load:
            time.sleep(1.05)
    assert {request.path for request in server.requests} == {"/version", "/echo"}


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (lambda request: Reply(http(b"no", status=500)), "status 500"),
        (lambda request: Reply(http(b"", status=302)), "status 302"),
        (lambda request: Reply(b"", close=True), "closed without a whole answer"),
        (
            lambda request: Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", close=True),
            "without a whole answer",
        ),
        (lambda request: Reply(b"nonsense\r\n\r\n"), "not HTTP"),
    ],
)
def test_every_bad_answer_is_lost_and_not_tried_again(behaviour: Behaviour, reason: str) -> None:
    with serving(every_fifth(behaviour)) as server:
        summary = load_of(server.url).report()
    assert (summary.sent, summary.lost) == (SENT, SENT // 5)
    assert len(server.requests) == SENT
    assert all(reason in line for line in summary.reasons)


def test_wrong_bodies_are_lost() -> None:
    with serving(lambda request: Reply(http(b"something else"))) as server:
        summary = load_of(server.url).report()
    checked = sum(request.path in ("/version", "/echo") for request in server.requests)
    assert summary.lost == checked > 0
    assert {reason.split(": ")[1].split(",")[0] for reason in summary.reasons} == {
        "another body than the one that was sent",
        "/version is not what it should be",
    }


@pytest.mark.anyio
async def test_an_idle_connection_that_the_server_closed_is_no_loss() -> None:
    with serving(lambda request: Reply(good(request).data, close=True)) as server:
        client = Client(server.url, "any")
        for _ in range(3):
            assert (await client.request("GET", "/version")).status == 200
            async with asyncio.timeout(5):
                while client.is_open:
                    await asyncio.sleep(0.001)
    assert [request.connection for request in server.requests] == [0, 1, 2]


def test_no_connection_is_a_loss() -> None:
    summary = load_of(f"http://127.0.0.1:{free_port()}").report()
    assert (summary.sent, summary.lost) == (SENT, SENT)
    assert "no connection: ConnectionRefusedError" in summary.reasons[0]


def test_kept_alive_clients_return_their_cookie_and_new_visitors_have_none() -> None:
    def give_cookie(request: Request) -> Reply:
        return Reply(
            http(b'{"commit": "c"}' if request.path == "/version" else request.body, set_cookie="seat=1; Path=/")
        )

    with serving(give_cookie) as server:
        load_of(server.url, host="notes.localhost")
    assert {request.headers["host"] for request in server.requests} == {"notes.localhost"}
    seen: set[int] = set()
    for request in server.requests:
        assert request.headers.get("cookie") == ("seat=1" if request.connection in seen else None)
        seen.add(request.connection)


def test_a_stop_waits_for_answers_and_a_report_can_be_had_meanwhile() -> None:
    answering = threading.Event()

    def slow(request: Request) -> Reply:
        answering.wait(10)
        return good(request)

    with serving(slow) as server:
        load = Load(server.url, rate=RATE)
        load.start()
        wait_for(lambda: len(server.requests) > 0, "the first request", 10)
        assert load.report().sent == 0
        answering.set()
        load.stop()
        load.stop()
        assert load.report().sent == len(server.requests) > 0
        assert load.report().lost == 0
