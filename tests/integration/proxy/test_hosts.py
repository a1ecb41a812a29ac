"""Hosts and paths of apps through a real Envoy: who gets what, redirects, and a change under load."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from tests.support.proxy.proxy_stack import Stack, until
from tests.support.proxy.raw_app import RawApp, raw_apps, route

pytestmark = pytest.mark.anyio

RATE, CONNECTIONS = 500, 5


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


async def read(reader: asyncio.StreamReader) -> Answer:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = dict(line.split(": ", 1) for line in lines if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(first.split()[1]), headers, body.decode())


async def ask(
    stack: Stack, host: str, path: str = "/", *, port: str = "public", method: str = "GET", **headers: str
) -> Answer:
    """Sends the request as it is written here; a client's library would put some paths in order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", getattr(stack.settings, f"{port}_port"))
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n".encode())
    try:
        return await read(reader)
    finally:
        writer.close()


async def put(stack: Stack, app: str, status: int = 200, **edge: Any) -> dict[str, Any]:
    answer = await stack.api.put(f"/apps/{app}/edge", json=edge)
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    return document


@pytest.fixture
async def apps(stack: Stack) -> AsyncIterator[dict[str, RawApp]]:
    """The proxy service runs, with production of `notes` and `api`, each of which answers with its name."""
    made = {name: RawApp(name) for name in ("notes", "api")}
    async with raw_apps(*made.values()), stack.service():
        for name, app in made.items():
            await route(stack, [app], of=name)
        yield made


async def test_a_host_is_found_however_it_is_written_and_one_of_no_app_is_not(
    stack: Stack, apps: dict[str, RawApp]
) -> None:
    put_hosts = await put(stack, "notes", hosts=["WWW.example.com.", "*.example.com"])
    assert put_hosts["hosts"] == ["*.example.com", "www.example.com"]
    await put(stack, "api", hosts=["api.example.com"])
    assert (await stack.api.get("/apps/notes/edge")).json() == put_hosts
    expected = {
        "notes.localhost": "notes",
        "notes.localhost.": "notes",
        "NOTES.LocalHost.:3456": "notes",
        "api.localhost.": "api",
        "www.example.com:80": "notes",
        "WWW.EXAMPLE.COM.": "notes",
        "any.other.example.com": "notes",
        "api.example.com": "api",
        "example.com": "No app of this platform",
        "later.localhost": "No app of this platform",
        "127.0.0.1": "No app of this platform",
    }
    answers = {host: await ask(stack, host) for host in expected}
    assert [host for host, answer in answers.items() if expected[host] not in answer.body] == []
    assert {answer.status for host, answer in answers.items() if " " in expected[host]} == {404}
    assert apps["notes"].requests[1].headers["host"] == "notes.localhost", "the app gets it without the dot"

    refused = await put(stack, "api", 409, hosts=["www.example.com"])
    assert refused["detail"].startswith("host www.example.com belongs to app notes; ") and refused["app"] == "notes"
    faulty = await put(stack, "api", 422, hosts=["example.com:80"], paths=[])
    assert [each["field"] for each in faulty["errors"]] == ["hosts.0"]
    assert (await stack.api.get("/ready")).json()["problems"] == {}


async def test_one_app_may_have_the_unknown_hosts(stack: Stack, apps: dict[str, RawApp]) -> None:
    await put(stack, "api", catch_all=True)
    assert (await ask(stack, "127.0.0.1")).body == (await ask(stack, "any.example", port="production")).body == "api"
    assert (await ask(stack, "notes.localhost")).body == "notes"
    assert (await put(stack, "notes", 409, catch_all=True))["app"] == "api"
    await put(stack, "api")
    assert (await ask(stack, "127.0.0.1")).status == 404
    await put(stack, "notes", catch_all=True)
    assert (await ask(stack, "127.0.0.1")).body == "notes"


async def test_other_names_are_redirected_to_the_canonical_host(stack: Stack, apps: dict[str, RawApp]) -> None:
    await put(stack, "notes", hosts=["example.com", "*.example.com"], canonical_host="www.example.com")
    redirects = {
        ("example.com", "/"): "http://www.example.com/",
        ("EXAMPLE.com.:3456", "/a%20b?x=1&y=/z"): "http://www.example.com:3456/a%20b?x=1&y=/z",
        ("notes.localhost", "//evil.example/x"): "http://www.example.com//evil.example/x",
    }
    for (host, path), location in redirects.items():
        answer = await ask(stack, host, path, method="POST", content_length="0")
        assert (answer.status, answer.headers["location"]) == (308, location)
    assert apps["notes"].requests == []
    for host in ("www.example.com", "WWW.example.com.:3456", "tenant.example.com"):
        assert (await ask(stack, host)).body == "notes"
    assert (await ask(stack, "example.com", port="production")).body == "notes"


async def test_a_path_leads_to_another_app_and_no_way_of_writing_it_leads_past(
    stack: Stack, apps: dict[str, RawApp]
) -> None:
    paths = [{"prefix": "/v", "app": "api"}, {"prefix": "/v/api/", "app": "api", "strip": True}]
    assert (await put(stack, "notes", paths=paths))["paths"][1]["prefix"] == "/v/api"
    expected = {
        "/v": ("api", "/v"),
        "/v/": ("api", "/v/"),
        "/v?a=/v/api": ("api", "/v?a=/v/api"),
        "/v/api": ("api", "/"),
        "/v/api?a=%2F": ("api", "/?a=%2F"),
        "/v/api/": ("api", "/"),
        "/v/api/x/v/api/y": ("api", "/x/v/api/y"),
        "/v/apis": ("api", "/v/apis"),
        "/vv": ("notes", "/vv"),
        "/V": ("notes", "/V"),
        "/x/v": ("notes", "/x/v"),
        "/...": ("notes", "/..."),
    }
    for path, (name, seen) in expected.items():
        assert ((await ask(stack, "notes.localhost", path)).body, apps[name].paths[-1]) == (name, seen)
    prefixes = {request.headers.get("x-forwarded-prefix") for request in apps["api"].requests}
    assert prefixes == {None, "/v/api"}

    seen_before = len(apps["api"].requests), len(apps["notes"].requests)
    for path in ("/v%2fapi", "/x/..%2Fv", "/v%5Capi", "/v\\api", "/x/../v", "/x/..", "/./v", "/x/%2e%2E/v", "/%2e/v"):
        assert (await ask(stack, "notes.localhost", path)).status == 400, path
    for path, to in {"//v": "/v", "/x///v//api/?a=//b": "/x/v/api/?a=//b"}.items():
        answer = await ask(stack, "notes.localhost:3456", path)
        assert (answer.status, answer.headers["location"]) == (308, f"http://notes.localhost:3456{to}")
    assert (len(apps["api"].requests), len(apps["notes"].requests)) == seen_before
    assert (await ask(stack, "api.localhost", "/a%2fb//c/../d")).body == "api", "only a host with mapped paths refuses"


async def test_a_mapped_app_keeps_its_own_canary_cookie_header_and_counts(
    stack: Stack, apps: dict[str, RawApp]
) -> None:
    canary = RawApp("api canary")
    async with raw_apps(canary):
        await route(stack, [], [canary], weight=50, of="api")
        await put(stack, "notes", paths=[{"prefix": "/api", "app": "api"}])
        first = await ask(stack, "notes.localhost", "/api")
        cookie = first.headers["set-cookie"].partition(";")[0]
        assert cookie.startswith("slipway-api=api-r2.")
        again = [await ask(stack, "notes.localhost", "/api", cookie=cookie) for _ in range(8)]
        assert {answer.body for answer in again} == {first.body}
        chosen = [(await ask(stack, "notes.localhost", "/api", x_canary=each)).body for each in ("always", "never")]
        assert chosen == ["api canary", "api"]
        assert (await ask(stack, "notes.localhost", "/", x_canary="always")).body == "notes"

        async def counts() -> dict[str, int]:
            items = (await stack.api.get("/traffic")).json()["items"]
            return {each["app"]: sum(track["requests"] for track in each["tracks"].values()) for each in items}

        async def counted() -> bool:
            return await counts() == {"api": 11, "notes": 1}

        await until(counted)
        await stack.api.post("/apps/api/rollout/abort", json={"release": "api-r2"})
        assert {(await ask(stack, "notes.localhost", "/api", x_canary="always")).body for _ in range(4)} == {"api"}


async def test_hosts_and_paths_change_under_load_without_a_lost_request(stack: Stack, apps: dict[str, RawApp]) -> None:
    """500 requests/s, for a host and a path that stay, while others come and go."""
    seen: Counter[tuple[int, str]] = Counter()
    stop = asyncio.Event()

    async def visit(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.settings.public_port)
        due = asyncio.get_running_loop().time() + number / RATE
        while not stop.is_set():
            path = "/stays/x" if number % 2 else "/"
            writer.write(f"GET {path} HTTP/1.1\r\nhost: notes.localhost\r\n\r\n".encode())
            answer = await read(reader)
            seen[answer.status, answer.body] += 1
            due += CONNECTIONS / RATE
            await asyncio.sleep(due - asyncio.get_running_loop().time())
        writer.close()

    stays = {"prefix": "/stays", "app": "api"}
    await put(stack, "notes", paths=[stays])
    visits = [asyncio.create_task(visit(number)) for number in range(CONNECTIONS)]
    for number in range(20):
        more = [{"prefix": f"/path{number}", "app": "api", "strip": True}] if number % 3 else []
        canonical = "notes.localhost" if number % 4 == 3 else ""
        hosts = [f"host{number}.example", "*.example.org"]
        settings: dict[str, Any] = {"hosts": hosts, "canonical_host": canonical, "catch_all": number % 2 == 0}
        await put(stack, "notes", paths=[stays, *more], **settings)
        await put(stack, "api", hosts=[f"api{number}.example"])
        for host, name in ((f"host{number}.example", "notes"), (f"api{number}.example", "api")):
            answer = await ask(stack, host)
            assert answer.status == 308 if name == "notes" and canonical else answer.body == name
    stop.set()
    await asyncio.gather(*visits)
    assert set(seen) == {(200, "notes"), (200, "api")}
