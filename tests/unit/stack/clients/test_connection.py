"""The small HTTP/1.1 client under the load."""

import threading

import pytest

from stack.clients.connection import Connection, Lost, request_bytes
from tests.support.stack.misbehaving import Reply, good, http, serving

pytestmark = pytest.mark.anyio
REQUEST = request_bytes("GET", "/", "any")


async def test_answers_in_chunks_are_put_together() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with serving(lambda request: Reply(chunked)) as server:
        connection = await Connection.open(server.url)
        assert (await connection.request(REQUEST)).body == b"abcde"
        assert (await connection.request(REQUEST)).body == b"abcde"
        connection.close()
    assert {request.connection for request in server.requests} == {0}


async def test_a_connection_that_the_answer_ends_is_closed() -> None:
    with serving(lambda request: Reply(http(b"", connection="close"))) as server:
        connection = await Connection.open(server.url)
        await connection.request(REQUEST)
        assert connection.closed


async def test_no_answer_in_time_is_lost() -> None:
    release = threading.Event()

    def wait(request: object) -> Reply:
        release.wait(5)
        return Reply(b"", close=True)

    with serving(wait) as server:
        connection = await Connection.open(server.url)
        with pytest.raises(Lost, match=r"no answer within 0\.05 s"):
            await connection.request(REQUEST, timeout_s=0.05)
        assert connection.closed
        release.set()


async def test_an_answer_that_nobody_asked_for_closes_the_connection() -> None:
    with serving(lambda request: Reply(good(request).data * 2)) as server:
        connection = await Connection.open(server.url)
        await connection.request(REQUEST)
        assert connection.closed


def test_a_post_without_a_body_has_a_length() -> None:
    assert b"content-length: 0\r\n" in request_bytes("POST", "/echo", "any")
    assert b"content-length" not in REQUEST
