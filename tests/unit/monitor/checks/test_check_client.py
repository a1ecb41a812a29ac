"""Tests that what others' servers answer is read with limits: whatever they do is a value, a yes, a no or an error."""

import http.server
import threading
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import respx

from services.monitor.checks.check_client import MOST_BYTES, CheckClient, CheckError
from shared.security.outgoing import AddressGuard

pytestmark = pytest.mark.anyio
URL = "http://127.0.0.1:8000/x"
KEY = {"Authorization": "Bearer s3cretkey"}


@pytest.fixture
def outside() -> respx.Router:
    return respx.Router(assert_all_called=False)


@pytest.fixture
async def client(outside: respx.Router) -> AsyncIterator[CheckClient]:
    made = CheckClient(AddressGuard("*"), inner=httpx.MockTransport(outside.async_handler))
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"value": 0.98}', 0.98),
        ("3", 3.0),
        (' {"value": -1e3, "unit": "x"}\n', -1000.0),
        ('{"value": true}', "something other than"),
        ('{"value": "3"}', "something other than"),
        ('{"value": null}', "something other than"),
        ("[1]", "something other than"),
        ('{"value": NaN}', "other than JSON"),
        ('{"value": 1e999}', "not finite"),
        ("9" * 400, "not finite"),
        ("[" * 10_000, "other than JSON"),
        ("<html>", "other than JSON"),
        ("", "other than JSON"),
        ("\udcff", "other than JSON"),
    ],
)
async def test_a_metric_answers_a_finite_number_or_it_is_an_error(
    client: CheckClient, outside: respx.Router, text: str, value: float | str
) -> None:
    outside.get(URL).respond(200, content=text.encode("utf-8", "surrogateescape"))
    if isinstance(value, float):
        assert await client.value(URL, {}) == value
    else:
        with pytest.raises(CheckError, match=value):
            await client.value(URL, {})


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (200, "", None),
        (204, "", None),
        (202, "{}", None),
        (200, '"fine"', None),
        (200, '{"pass": true, "reason": "x"}', None),
        (200, '{"pass": false, "reason": "no stock"}', "no stock"),
        (200, '{"pass": false}', "it gives no reason"),
        (200, '{"pass": false, "reason": "line\\u001b[31m one\\nline two"}', "line one line two"),
        (200, '{"pass": "no"}', CheckError("neither true nor false")),
        (200, "<html>", CheckError("other than JSON")),
        (500, '{"pass": false}', CheckError("answered 500")),
        (404, "", CheckError("answered 404")),
        (302, "", CheckError("redirects")),
    ],
)
async def test_a_hook_passes_says_no_or_is_an_error(
    client: CheckClient, outside: respx.Router, status: int, text: str, said: str | CheckError | None
) -> None:
    route = outside.post(URL).respond(status, text=text, headers={"Location": "http://127.0.0.1:8000/other"})
    if isinstance(said, CheckError):
        with pytest.raises(CheckError, match=str(said)):
            await client.refusal(URL, {}, {"app": "notes"})
    else:
        assert await client.refusal(URL, {}, {"app": "notes"}) == said
    assert route.calls.last.request.content == b'{"app":"notes"}'
    assert route.call_count == 1  # a redirect is not followed


@pytest.mark.parametrize(
    "fault", [httpx.ConnectError("refused"), httpx.ReadTimeout("late"), httpx.RemoteProtocolError("odd")]
)
async def test_a_server_that_fails_is_an_error(client: CheckClient, outside: respx.Router, fault: Exception) -> None:
    outside.get(URL).mock(side_effect=fault)
    with pytest.raises(CheckError):
        await client.value(URL, {})


async def test_what_a_server_repeats_of_the_headers_is_hidden(client: CheckClient, outside: respx.Router) -> None:
    route = outside.post(URL).respond(200, json={"pass": False, "reason": "s3cretkey is wrong: Bearer s3cretkey"})
    assert await client.refusal(URL, KEY, {}) == "**** is wrong: ****"
    assert route.calls.last.request.headers["authorization"] == "Bearer s3cretkey"


async def test_no_cookie_of_one_answer_goes_with_another_call(client: CheckClient, outside: respx.Router) -> None:
    route = outside.get(URL).respond(200, text="1", headers={"Set-Cookie": "a=b; Path=/"})
    for _ in range(2):
        await client.value(URL, {})
    assert "cookie" not in route.calls.last.request.headers


async def test_a_compressed_answer_is_an_error(client: CheckClient, outside: respx.Router) -> None:
    outside.get(URL).respond(200, content=b"1", headers={"Content-Encoding": "br"})
    with pytest.raises(CheckError, match="compressed"):
        await client.value(URL, {})


class _Outside(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        if self.path == "/endless":
            with_limit = 40 * MOST_BYTES
            while with_limit > 0:
                try:
                    self.wfile.write(b" " * 65_536)
                except OSError:
                    return
                with_limit -= 65_536
        elif self.path == "/silent":
            self.server.stopped.wait(10)  # type: ignore[attr-defined]
        else:
            self.wfile.write(b'{"value": 7}')

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Outside)
    running.stopped = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.stopped.set()  # type: ignore[attr-defined]
    running.shutdown()
    thread.join()
    running.server_close()


async def test_a_real_server_is_called_through_the_guard_with_limits(server: str) -> None:
    client = CheckClient(AddressGuard("127.0.0.0/8"), timeout_s=0.3)
    assert await client.value(f"{server}/value", {}) == 7
    with pytest.raises(CheckError, match="more than 64 KB"):
        await client.value(f"{server}/endless", {})
    with pytest.raises(CheckError, match=r"within 0\.3 s"):
        await client.value(f"{server}/silent", {})
    await client.aclose()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "2130706433"])
async def test_no_address_of_the_machine_is_called(host: str) -> None:
    client = CheckClient(AddressGuard())
    with pytest.raises(CheckError, match=r"which nothing may call|has no address"):
        await client.value(f"http://{host}:9/", {})
    await client.aclose()
