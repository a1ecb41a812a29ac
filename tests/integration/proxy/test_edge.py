"""Tests what Envoy refuses, and what it tells apps about clients, byte for byte and through a real Envoy."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.proxy.raw_requests import (
    HOST,
    Edge,
    Got,
    Headers,
    answer,
    http_2,
    http_2_status,
    proxy_v1,
    proxy_v2,
    running_edge,
    status,
)

CLIENT, PROXY, SECOND_PROXY = "127.0.0.1", "127.0.0.9", "127.0.1.9"
VISITOR = "203.0.113.9"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """One Envoy for all tests here. Requests that name no host belong to the app, too."""
    ports = {"https_port": free_port(), "proxy_protocol_port": free_port()}
    trusted = f"{PROXY} 127.0.1.0/24"
    with running_edge(tmp_path_factory.mktemp("edge"), "localhost", trusted_proxies=trusted, **ports) as edge:
        yield edge


def forwarded(got: Got) -> dict[str, list[str]]:
    """Returns what the app gets to know about the client."""
    names = ("for", "proto", "host", "port")
    return {name: got.values(f"x-forwarded-{name}") for name in names}


SPOOFS = [
    *("X-Forwarded-For: 198.51.100.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example"),
    *("X-Forwarded-Port: 443", "Forwarded: for=198.51.100.1;proto=https", "X-Real-IP: 198.51.100.1"),
    *("True-Client-IP: 198.51.100.1", "X-Client-IP: 198.51.100.1", "X-Forwarded-Prefix: /evil"),
    *("X-Forwarded-Ssl: on", "Front-End-Https: on", "X-Original-URL: /admin", "X-Rewrite-URL: /admin"),
]


def test_what_an_untrusted_client_says_of_itself_is_set_anew(edge: Edge) -> None:
    own = {"for": [CLIENT], "proto": ["http"], "host": [], "port": [str(edge.settings.public_port)]}
    assert forwarded(edge.ask()) == own
    spoofed = edge.ask(*SPOOFS, "X-Forwarded-For: 198.51.100.2")
    assert forwarded(spoofed) == own
    assert "198.51.100" not in str(spoofed) and "evil" not in str(spoofed) and "/admin" not in str(spoofed)


def test_a_trusted_proxys_words_about_the_client_are_kept_and_the_address_is_the_last_that_is_not_trusted(
    edge: Edge,
) -> None:
    told = ("X-Forwarded-Proto: https", "X-Forwarded-Host: notes.example", "X-Forwarded-Port: 443")
    kept = {"for": [VISITOR], "proto": ["https"], "host": ["notes.example"], "port": ["443"]}
    for chain in (VISITOR, f"198.51.100.1, {VISITOR}", f"198.51.100.1, {VISITOR}, {SECOND_PROXY}"):
        assert forwarded(edge.ask(f"X-Forwarded-For: {chain}", *told, source=PROXY)) == kept
    apart = ("X-Forwarded-For: 198.51.100.1", f"X-Forwarded-For: {VISITOR}", *told)
    assert forwarded(edge.ask(*apart, source=SECOND_PROXY)) == kept


def test_a_trusted_proxy_that_says_nothing_is_the_client(edge: Edge) -> None:
    assert forwarded(edge.ask(source=PROXY)) == {"for": [PROXY], "proto": ["http"], "host": [], "port": []}


def test_what_clients_send_through_a_trusted_proxy_unseen_does_not_count(edge: Edge) -> None:
    unseen = [each for each in SPOOFS if each.partition(":")[0] not in ("X-Forwarded-For", "X-Forwarded-Proto")]
    unseen = [each for each in unseen if not each.startswith(("X-Forwarded-Host", "X-Forwarded-Port"))]
    own = (
        "X-Request-Id: chosen",
        "X-Envoy-Retry-On: 5xx",
        "X-Envoy-Max-Retries: 9",
        "X-Envoy-External-Address: 1.1.1.1",
    )
    got = edge.ask(f"X-Forwarded-For: {VISITOR}", *unseen, *own, source=PROXY)
    names = {name for name, _ in got.headers}
    assert names.isdisjoint({each.partition(":")[0].lower() for each in unseen} | {"x-envoy-retry-on"})
    assert got.values("x-request-id") != ["chosen"]
    assert "1.1.1.1" not in str(got)


def test_a_balancer_names_the_client_by_the_proxy_protocol(edge: Edge) -> None:
    port = edge.settings.proxy_protocol_port
    for header in (proxy_v1(VISITOR), proxy_v2(VISITOR)):
        got = edge.ask(*SPOOFS, port=port, source=PROXY, first=header)
        assert forwarded(got) == {"for": [VISITOR], "proto": ["http"], "host": [], "port": ["443"]}
    through = edge.ask(f"X-Forwarded-For: {VISITOR}", port=port, source=PROXY, first=proxy_v1(SECOND_PROXY))
    assert through.values("x-forwarded-for") == [VISITOR]  # a trusted proxy behind the balancer


def test_a_balancer_that_passes_tls_on_names_the_client_too(edge: Edge) -> None:
    port = edge.settings.proxy_protocol_port
    got = edge.ask(port=port, source=PROXY, first=proxy_v2(VISITOR), tls="http/1.1")
    assert forwarded(got) == {"for": [VISITOR], "proto": ["https"], "host": [], "port": ["443"]}


def test_who_comes_by_https_is_known_and_cannot_spoof_either(edge: Edge) -> None:
    port = edge.settings.https_port
    got = edge.ask(*SPOOFS, port=port, tls="http/1.1")
    assert forwarded(got) == {"for": [CLIENT], "proto": ["https"], "host": [], "port": [str(port)]}
    assert edge.ask(f"X-Forwarded-For: {VISITOR}", port=port, source=PROXY, tls="http/1.1").values(
        "x-forwarded-for"
    ) == [VISITOR]


def test_only_a_trusted_balancer_may_use_the_port_of_the_proxy_protocol_and_must_name_the_client(edge: Edge) -> None:
    port, seen = edge.settings.proxy_protocol_port, len(edge.app.requests)
    request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    assert edge.send(proxy_v1(VISITOR) + request, port, source=CLIENT) == b""
    assert edge.send(request, port, source=PROXY) == b""
    assert status(edge.send(proxy_v1(VISITOR) + request)) == 400  # on the public port it is no request
    assert edge.app.requests[seen:] == []


def head(*lines: str) -> bytes:
    return "".join(f"{each}\r\n" for each in (*lines, "")).encode("latin-1")


def get(*headers: str, path: str = "/", method: str = "GET") -> bytes:
    return head(f"{method} {path} HTTP/1.1", f"Host: {HOST}", *headers)


def post(*headers: str, body: bytes = b"") -> bytes:
    return get(*headers, method="POST") + body


CHUNKED, INNER = "Transfer-Encoding: chunked", b"GET /smuggled HTTP/1.1\r\nHost: notes.localhost\r\n\r\n"

REFUSED: dict[str, tuple[bytes, int]] = {
    "TRACE": (get(method="TRACE"), 405),
    "CONNECT": (head(f"CONNECT {HOST}:80 HTTP/1.1", f"Host: {HOST}"), 404),
    "an unknown method": (get(method="BREW!"), 400),
    "no Host": (head("GET / HTTP/1.1"), 400),
    "two Hosts": (head("GET / HTTP/1.1", f"Host: {HOST}", "Host: evil.example"), 400),
    "the same Host twice": (head("GET / HTTP/1.1", f"Host: {HOST}", f"Host: {HOST}"), 400),
    "Host with a comma": (head("GET / HTTP/1.1", f"Host: {HOST},evil.example"), 400),
    "Host with a space": (head("GET / HTTP/1.1", f"Host: {HOST} evil"), 400),
    "Host with a path": (head("GET / HTTP/1.1", f"Host: {HOST}/evil"), 400),
    "an underscore in a name": (get("X_Forwarded_For: 1.1.1.1"), 400),
    "a space before the colon": (get("Content-Length : 5"), 400),
    "a header without a colon": (get("X-A"), 400),
    "an empty name": (get(": b"), 400),
    "NUL in a value": (get("X-A: b\0c"), 400),
    "NUL in a name": (get("X-\0A: b"), 400),
    "more than 200 headers": (get(*(f"X-{number}: 1" for number in range(220))), 431),
    "a head of more than 60 KiB": (get(f"X-A: {'a' * 70_000}"), 431),
    "a space in the path": (get(path="/ HTTP/1.1 /"), 400),
    "a control character in the path": (get(path="/\x01"), 400),
    "length and chunks": (post("Content-Length: 6", CHUNKED, body=b"0\r\n\r\n" + INNER), 400),
    "chunks and length": (post(CHUNKED, "Content-Length: 6", body=b"0\r\n\r\n" + INNER), 400),
    "two lengths": (post("Content-Length: 0", f"Content-Length: {len(INNER)}", body=INNER), 400),
    "the same length twice": (post("Content-Length: 3", "Content-Length: 3", body=b"abc"), 400),
    "X-Forwarded-For as a header of the connection": (get("Connection: close, X-Forwarded-For"), 400),
    "a list of lengths": (post(f"Content-Length: 0, {len(INNER)}", body=INNER), 400),
    "a negative length": (post("Content-Length: -1", body=INNER), 400),
    "a length with a sign": (post("Content-Length: +0", body=INNER), 400),
    "a length in hexadecimal": (post("Content-Length: 0x0", body=INNER), 400),
    "a length that overflows": (post("Content-Length: 18446744073709551616", body=INNER), 400),
    "chunks under another name": (post("Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + INNER), 501),
    "chunks and another coding": (post("Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + INNER), 501),
    "gzip before chunks": (post("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + INNER), 501),
    "chunks twice": (post(CHUNKED, CHUNKED, body=b"0\r\n\r\n" + INNER), 501),
    "chunks with a vertical tab": (post("Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + INNER), 400),
    "a size of a chunk that is none": (post(CHUNKED, body=b"zz\r\n\r\n" + INNER), 400),
    "a size of a chunk with a sign": (post(CHUNKED, body=b"-1\r\n\r\n" + INNER), 400),
    "a size of a chunk with 0x": (post(CHUNKED, body=b"0x1\r\na\r\n0\r\n\r\n" + INNER), 400),
    "a size of a chunk that overflows": (post(CHUNKED, body=b"10000000000000000\r\n" + INNER), 400),
    "a chunk's extension with LF": (post(CHUNKED, body=b"1;a\nb\r\na\r\n0\r\n\r\n" + INNER), 400),
}


@pytest.mark.parametrize("tls", [None, "http/1.1"])
def test_what_is_malformed_ambiguous_or_dangerous_is_refused_and_no_byte_of_it_reaches_an_app(
    edge: Edge, tls: str | None
) -> None:
    port, wrong = edge.settings.https_port if tls else edge.settings.public_port, {}
    for name, (request, expected) in REFUSED.items():
        seen = len(edge.app.requests)
        found = status(edge.send(request, port, tls=tls))
        if (found, edge.app.requests[seen:]) != (expected, []):
            wrong[name] = (found, edge.app.requests[seen:])
    assert wrong == {}


TAKEN: dict[str, tuple[bytes, bytes]] = {
    "200 headers": (get(*(f"X-{number}: 1" for number in range(190))), b""),
    "an upgrade to TLS that may be ignored": (get("Connection: Upgrade", "Upgrade: TLS/1.2"), b""),
    "an upgrade to h2c": (get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"), b""),
    "several upgrades": (get("Connection: Upgrade", "Upgrade: TLS/1.3, HTTP/2.0, web, websockets"), b""),
    "HTTP/1.0 without Host": (head("GET / HTTP/1.0"), b""),
    "HTTP/1.0 with Host": (head("GET / HTTP/1.0", f"Host: {HOST}"), b""),
    "an absolute address": (head(f"GET http://{HOST}/ HTTP/1.1", "Host: evil.example"), b""),
    "chunks": (post(CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"), b"abc"),
    "chunks with extensions": (post(CHUNKED, body=b"3;a=b;c\r\nabc\r\n0\r\n\r\n"), b"abc"),
    "chunks with trailers": (post(CHUNKED, body=b"3\r\nabc\r\n0\r\nContent-Length: 50\r\n\r\n"), b"abc"),
    "a length with zeros": (post("Content-Length: 003", body=b"abc"), b"abc"),
    "empty lines before the request": (b"\r\n\r\n" + get(), b""),
    "a header of the connection": (get("Connection: close, X-A", "X-A: b"), b""),
    "a folded header": (get("X-A: b", " Transfer-Encoding: chunked"), b""),
    "CR in a value": (get("X-A: b\rTransfer-Encoding: chunked"), b""),
    "lines that end with LF": (get("X-A: b").replace(b"\r", b""), b""),
    "HTTP/0.9": (b"GET /\r\n\r\n", b""),
    "HTTP/3.0": (head("GET / HTTP/3.0", f"Host: {HOST}"), b""),
    "chunks by HTTP/1.0": (head("POST / HTTP/1.0", f"Host: {HOST}", CHUNKED) + b"0\r\n\r\n" + INNER, b""),
    "a chunk that is longer than its size": (post(CHUNKED, body=b"1\r\nabc\r\n0\r\n\r\n"), b"a"),
    "a chunk that ends with LF": (post(CHUNKED, body=b"1\r\na\n0\r\n\r\n"), b"a"),
}


def test_what_is_unusual_is_one_good_request_to_the_app(edge: Edge) -> None:
    wrong = {}
    for name, (request, body) in TAKEN.items():
        seen = len(edge.app.requests)
        found = status(edge.send(request))
        got = edge.app.requests[seen:]
        hosts = [each.values("host") for each in got]
        if (found, [each.body for each in got]) != (200, [body]) or hosts not in ([[HOST]], [["localhost"]]):
            wrong[name] = (found, got)
    assert wrong == {}


def test_an_upgrade_that_is_ignored_does_not_reach_the_app_and_one_to_a_websocket_does(edge: Edge) -> None:
    assert edge.ask("Connection: Upgrade", "Upgrade: TLS/1.2").values("upgrade") == []
    assert edge.ask("Connection: Upgrade", "Upgrade: WebSocket").values("upgrade") == ["WebSocket"]


def test_an_answer_may_have_200_headers(edge: Edge) -> None:
    assert edge.send(get(path="/headers?190")).count(b"\r\nx-") >= 190


def test_two_requests_on_one_connection_are_two_of_the_app(edge: Edge) -> None:
    seen = len(edge.app.requests)
    with edge.connect() as connection:
        connection.sendall(post("Content-Length: 3", body=b"abc") + get(path="/second"))
        found = answer(connection)
        while found.count(b"HTTP/1.1 200") < 2:
            found += connection.recv(65536)
    assert [each.line.split()[1] for each in edge.app.requests[seen:]] == ["/", "/second"]


def h2(*more: tuple[str, str], path: str = "/", method: str = "GET", authority: str = HOST) -> Headers:
    pseudo = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)]
    return [*pseudo, *more]


SPLIT = "\r\nGET /smuggled HTTP/1.1\r\nHost: notes.localhost\r\n\r\n"
REFUSED_BY_HTTP_2: dict[str, tuple[Headers, bytes | None]] = {
    "a capital in a name": (h2(("X-A", "b")), None),
    "CR and LF in a value": (h2(("x-a", f"b{SPLIT}")), None),
    "LF in a value": (h2(("x-a", "b\nx-b: c")), None),
    "NUL in a value": (h2(("x-a", "b\0c")), None),
    "CR and LF in a name": (h2((f"x-a: b{SPLIT}", "c")), None),
    "a colon in a name": (h2(("x-a: b", "c")), None),
    "an underscore in a name": (h2(("x_a", "b")), None),
    "CR and LF in the path": (h2(path=f"/ HTTP/1.1{SPLIT}"), None),
    "a space in the path": (h2(path="/ HTTP/1.1"), None),
    "no path": ([each for each in h2() if each[0] != ":path"], None),
    "an empty path": (h2(path=""), None),
    "two paths": (h2((":path", "/smuggled")), None),
    "two methods": ([(":method", "POST"), *h2()], None),
    "an unknown pseudo header": ([*h2()[:4], (":evil", "b")], None),
    "a pseudo header behind others": ([("x-a", "b"), *h2()], None),
    "CR and LF in the method": (h2(method=f"GET / HTTP/1.1{SPLIT}"), None),
    "a space in the host": (h2(authority=f"{HOST} evil"), None),
    "two hosts": (h2(authority=f"{HOST},evil.example"), None),
    "TRACE": (h2(method="TRACE"), None),
    "transfer-encoding": (h2(("transfer-encoding", "chunked"), method="POST"), b"0\r\n\r\n" + INNER),
    "connection": (h2(("connection", "close")), None),
    "a length above the body": (h2(("content-length", "99"), method="POST"), b"abc"),
    "two lengths": (h2(("content-length", "3"), ("content-length", "4"), method="POST"), b"abc"),
    "te": (h2(("te", "chunked")), None),
}


@pytest.mark.parametrize("tls", [None, "h2"])
def test_what_is_malformed_by_http_2_is_refused_and_no_byte_of_it_becomes_another_request(
    edge: Edge, tls: str | None
) -> None:
    port, seen, wrong = edge.settings.https_port if tls else edge.settings.public_port, len(edge.app.requests), {}
    with contextlib.ExitStack() as stack:
        connections = {name: stack.enter_context(edge.connect(port, tls=tls)) for name in REFUSED_BY_HTTP_2}
        for name, request in REFUSED_BY_HTTP_2.items():
            connections[name].sendall(http_2(*request))  # all at once, since Envoy ends a connection after a second
        for name, connection in connections.items():
            if (found := http_2_status(connection)) not in (0, 400):
                wrong[name] = found
    assert (wrong, edge.app.requests[seen:]) == ({}, [])


def test_a_body_by_http_2_that_is_longer_than_its_length_becomes_no_other_request(edge: Edge) -> None:
    seen = len(edge.app.requests)
    with edge.connect() as connection:
        connection.sendall(http_2(h2(("content-length", "0"), method="POST"), INNER))
        http_2_status(connection)
    edge.ask()  # the app would have got another request by now
    assert {got.line for got in edge.app.requests[seen:]} <= {"POST / HTTP/1.1", "GET / HTTP/1.1"}


def test_a_good_request_by_http_2_is_one_good_request_to_the_app(edge: Edge) -> None:
    seen = len(edge.app.requests)
    with edge.connect() as connection:
        connection.sendall(http_2(h2(("content-length", "3"), ("host", "evil.example"), method="POST"), b"abc"))
        assert http_2_status(connection) == 200
    [got] = edge.app.requests[seen:]
    assert (got.line, got.values("host"), got.body) == ("POST / HTTP/1.1", [HOST], b"abc")


def test_a_request_whose_body_stalls_is_ended_and_a_quiet_stream_is_not(tmp_path: Path) -> None:
    with contextlib.closing(Edge(tmp_path)) as edge:
        text = json.dumps(json.loads(edge.bootstrap.read_text()))
        edge.bootstrap.write_text(text.replace('"stream_idle_timeout": "300s"', '"stream_idle_timeout": "0.3s"'))
        edge.start()
        with edge.connect() as quiet, edge.connect() as stalled:
            quiet.sendall(get(path="/quiet"))
            assert edge.app.asked.wait(10)
            stalled.sendall(post("Content-Length: 10", body=b"abc"))
            assert status(answer(stalled)) == 408
            edge.app.release()
            assert status(answer(quiet)) == 200
