"""The app as a client sees it: a real server on a free port, and a small flags service that the test switches."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from app import Server, make_server
from flags import Flag
from notes import VERSION, Identity, Notes


class FlagsService(ThreadingHTTPServer):
    """Answers OFREP with `value`, or nothing that can be read while `broken`."""

    value = False
    broken = False
    seen: list[tuple[str, str, object]]

    def __init__(self) -> None:
        self.seen = []
        super().__init__(("127.0.0.1", 0), FlagsHandler)


class FlagsHandler(BaseHTTPRequestHandler):
    server: FlagsService

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, self.headers["Authorization"], body))
        self.send_response(500 if self.server.broken else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"key": "set-message", "value": self.server.value, "variant": "on"}).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def serving(server: ThreadingHTTPServer) -> threading.Thread:
    thread = threading.Thread(target=server.serve_forever, args=(0.005,))
    thread.start()
    return thread


@pytest.fixture
def flags_service() -> Iterator[FlagsService]:
    with FlagsService() as service:
        thread = serving(service)
        yield service
        service.shutdown()
        thread.join()


@pytest.fixture
def server(flags_service: FlagsService) -> Iterator[Server]:
    environment = {
        "PORT": "0",
        "SLIPWAY_COMMIT": "c0ffee",
        "SLIPWAY_RELEASE": "notes-r9",
        "SLIPWAY_TRACK": "canary",
        "OFREP_ENDPOINT": f"http://127.0.0.1:{flags_service.server_address[1]}",
        "FLAGS_TOKEN": "of-the-test",
    }
    with make_server(environment) as server:
        thread = serving(server)
        yield server
        server.stop()
        thread.join()


class Client:
    """One kept-alive connection."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=5)

    def __call__(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
        self._connection.request(method, path, body)
        self.socket = self._connection.sock
        self.answer = self._connection.getresponse()
        return self.answer.status, self.answer.read().decode()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    client = Client(server)
    yield client
    client.close()


def test_the_front_page_names_version_commit_and_track(client: Client) -> None:
    status, page = client("GET", "/")
    assert status == 200
    for fact in (VERSION, "c0ffee", "canary", "notes-r9", "pid "):
        assert fact in page


def test_version_is_json(client: Client) -> None:
    status, body = client("GET", "/version")
    version = json.loads(body)
    assert (status, version["commit"], version["release"], version["track"]) == (200, "c0ffee", "notes-r9", "canary")


def test_a_note_is_set_only_while_the_flag_is_on(client: Client, flags_service: FlagsService) -> None:
    status, page = client("GET", "/set/hello")
    assert status == 403
    assert "disabled" in page
    assert client("GET", "/get") == (200, "\n")
    flags_service.value = True
    assert client("GET", "/set/a%20%3Cb%3E")[0] == 200
    assert client("GET", "/get") == (200, "a <b>\n")
    assert "a &lt;b&gt;" in client("GET", "/")[1]
    flags_service.value = False
    assert client("GET", "/set/other")[0] == 403
    assert client("GET", "/get") == (200, "a <b>\n")


def test_the_flag_is_asked_as_ofrep_says(client: Client, flags_service: FlagsService) -> None:
    client("GET", "/set/hello")
    assert flags_service.seen == [
        (
            "/ofrep/v1/evaluate/flags/set-message",
            "Bearer of-the-test",
            {"context": {"targetingKey": "notes-r9"}},
        )
    ]


def test_the_last_known_value_outlives_the_flags_service(client: Client, flags_service: FlagsService) -> None:
    flags_service.value = True
    assert client("GET", "/set/one")[0] == 200
    flags_service.broken, flags_service.value = True, False
    assert client("GET", "/set/two")[0] == 200


def test_a_flag_that_was_never_read_is_off() -> None:
    assert Flag("any", "http://127.0.0.1:9", "", "somebody").look_up() is False


def test_head_has_no_body_and_changes_nothing(client: Client, flags_service: FlagsService) -> None:
    flags_service.value = True
    assert client("HEAD", "/") == (200, "")
    assert client("HEAD", "/set/hello") == (405, "")
    assert client("GET", "/get") == (200, "\n")


def test_a_note_has_bounds(client: Client) -> None:
    assert client("GET", "/set/")[0] == 400
    assert client("GET", "/set/" + "x" * 201)[0] == 400


def test_echo_returns_the_body(client: Client) -> None:
    assert client("POST", "/echo", b"as it was") == (200, "as it was")
    assert client("GET", "/echo")[0] == 405


def test_an_unwanted_body_is_not_taken_for_the_next_request(client: Client) -> None:
    assert client("POST", "/up", b"GET /fail HTTP/1.1\r\n\r\n") == (200, "ok\n")
    assert client("GET", "/up") == (200, "ok\n")


def test_a_body_without_length_is_refused(server: Server) -> None:
    with socket.create_connection(server.server_address) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n\r\n")
        status = client.makefile("rb").readline()
        assert status.startswith(b"HTTP/1.1 413 "), status  # the words after it are another Python's others


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/up", 200),
        ("/fail", 500),
        ("/nothing", 404),
        ("/slow?seconds=0.01", 200),
        ("/slow?seconds=soon", 400),
        ("/slow?seconds=nan", 400),
        ("/slow?seconds=99", 400),
        ("/eat?mb=1", 200),
        ("/eat?mb=-1", 400),
    ],
)
def test_status(client: Client, path: str, status: int) -> None:
    assert client("GET", path)[0] == status


def test_what_was_eaten_is_kept(client: Client) -> None:
    client("GET", "/eat?mb=2")
    assert client("GET", "/eat?mb=3") == (200, "ate 3 MiB, 5 MiB in all\n")


def notes_of(fail_share: float = 0.0, slow_s: float = 0.0) -> Notes:
    return Notes(Identity(), lambda: False, lambda: False, fail_share, slow_s)


def test_a_version_can_fail_as_a_whole_and_stay_healthy() -> None:
    failing = notes_of(fail_share=1.0)
    assert [failing.answer("GET", path).status for path in ("/", "/get", "/up")] == [500, 500, 200]


def test_a_version_can_be_slow_as_a_whole() -> None:
    started = time.monotonic()
    notes_of(slow_s=0.05).answer("GET", "/get")
    assert time.monotonic() - started >= 0.05


def test_a_stop_answers_what_is_under_way_and_closes_what_is_idle(server: Server) -> None:
    idle, busy = Client(server), Client(server)
    assert idle("GET", "/up")[0] == 200
    answers = []
    thread = threading.Thread(target=lambda: answers.append(busy("GET", "/slow?seconds=0.3")))
    thread.start()
    time.sleep(0.1)
    server.stop()
    server.server_close()  # waits for every connection's thread
    thread.join()
    assert answers == [(200, "took 0.3 s\n")]
    assert busy.answer.headers["Connection"] == "close"
    assert idle.socket.recv(1) == b""
    idle.close()
    busy.close()
