"""Visitors come by HTTPS: certificates of hosts in real Envoy, the redirect to them, and their change under load."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from services.proxy.control.keeper_socket import keeper_fault
from services.proxy.envoy.files import envoy_folder
from shared.models import Track
from tests.support.ports import free_port
from tests.support.proxy.authority import Authority, serial, served
from tests.support.proxy.proxy_stack import Stack, running_stack, until

pytestmark = pytest.mark.anyio

AUTHORITY = Authority()
HOST = "notes.example.com"
LOAD_PER_S = 500


@pytest.fixture
def stack(tmp_path: Path, redis_server: str, redis: Redis) -> Iterator[Stack]:
    with running_stack(tmp_path, redis_server, redis, https_port=free_port()) as stack:
        yield stack


@contextlib.asynccontextmanager
async def visitor(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A visitor by HTTPS who trusts the authority; each address has the host as its name, and leads to Envoy."""
    async with httpx.AsyncClient(verify=AUTHORITY.context(), timeout=10) as client:
        yield client


async def get(stack: Stack, client: httpx.AsyncClient, host: str = HOST, path: str = "/") -> httpx.Response:
    url = f"https://127.0.0.1:{stack.settings.https_port}{path}"
    return await client.get(url, headers={"host": host}, extensions={"sni_hostname": host})


async def set_certificate(stack: Stack, host: str = HOST, *names: str) -> str:
    """Sets a new certificate; returns its serial number."""
    issued = AUTHORITY.issue(*(names or (host,)))
    answer = await stack.api.put(f"/apps/notes/certificates/{host}", json=issued.body)
    assert answer.status_code == 200, answer.text
    return serial(issued.chain)


async def is_served(stack: Stack, host: str | None, *alpn: str) -> str | None:
    """The serial number of the certificate that a visitor gets; None: the handshake fails."""
    with contextlib.suppress(OSError):
        return (await served(stack.settings.https_port, host, AUTHORITY.context(*alpn)))[0]
    return None


async def serving(stack: Stack, *hosts: str) -> None:
    await stack.put(stack.app("stable"))
    await stack.sync(hosts=[*hosts])


async def test_a_host_is_served_by_https_once_its_certificate_is_set(stack: Stack) -> None:
    async with stack.service(), visitor(stack) as client:
        await serving(stack, HOST)
        assert await is_served(stack, HOST) is None
        number = await set_certificate(stack)

        async def new() -> bool:
            return await is_served(stack, HOST) == number

        await until(new)
        answer = await get(stack, client)
        assert (answer.status_code, answer.text) == (200, "stable")
        port = stack.settings.https_port
        assert await served(port, HOST, AUTHORITY.context("h2", "http/1.1")) == (number, "h2")
        assert await served(port, HOST, AUTHORITY.context("http/1.1")) == (number, "http/1.1")
        for other in ("nobody.example.com", "notes.localhost", None):
            assert await is_served(stack, other) is None
        old = AUTHORITY.context()
        with pytest.deprecated_call():
            old.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.deprecated_call():
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(OSError):
            await served(port, HOST, old)


async def test_the_answers_and_files_of_the_platform_never_hold_a_key_but_for_envoys_file(
    stack: Stack, redis: Redis
) -> None:
    issued = AUTHORITY.issue(HOST)
    secret = issued.key.splitlines()[1]
    async with stack.service():
        await serving(stack, HOST)
        texts = [(await stack.api.put(f"/apps/notes/certificates/{HOST}", json=issued.body)).text]
        faulty = {"chain": "", "key": issued.key}
        texts.append((await stack.api.put(f"/apps/notes/certificates/{HOST}", json=faulty)).text)
        texts.append((await stack.api.put(f"/apps/notes/certificates/{HOST}", json={**issued.body, "more": 1})).text)
        for path in ("certificates", f"certificates/{HOST}", "rollout", "edge"):
            texts.append((await stack.api.get(f"/apps/notes/{path}")).text)

        async def stored() -> bool:
            return HOST in str(await redis.get("proxy:route:notes"))

        await until(stored)
        texts.append(str(await redis.get("proxy:route:notes")))
    assert not [text for text in texts if secret in text]
    files = [path for path in stack.settings.home.rglob("*") if path.is_file() and secret in path.read_text("latin-1")]
    assert files == [envoy_folder(stack.settings) / "certificates" / f"{HOST}.json"]
    assert files[0].stat().st_mode & 0o777 == 0o600


async def test_a_host_without_the_app_or_with_a_wrong_certificate_is_refused(stack: Stack) -> None:
    async with stack.service():
        await serving(stack, HOST)
        body = AUTHORITY.issue("other.example.com").body
        wrong = await stack.api.put(f"/apps/notes/certificates/{HOST}", json=body)
        foreign = await stack.api.put("/apps/notes/certificates/other.example.com", json=body)
        unknown = await stack.api.put(f"/apps/shop/certificates/{HOST}", json=body)

        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "chain")
        assert (foreign.status_code, unknown.status_code) == (409, 404)
        assert "add it to the hosts of notes first" in foreign.json()["detail"]
        items = (await stack.api.get("/apps/notes/certificates")).json()["items"]
        assert [(each["host"], each["certificate"]) for each in items] == [(HOST, None), ("notes.localhost", None)]


async def test_certificates_and_settings_survive_restarts_and_envoy_needs_no_service_for_them(stack: Stack) -> None:
    async with stack.service():
        await serving(stack, HOST)
        number = await set_certificate(stack)
        await stack.api.put("/apps/notes/edge", json={"tls": {"redirect": True}})
    stack.kill_envoy()
    stack.kill_keeper()
    stack.start_keeper()
    stack.start_envoy()
    assert await is_served(stack, HOST) == number
    async with stack.service():
        assert (await stack.api.get("/apps/notes/edge")).json()["tls"]["redirect"] is True
        [item, _] = (await stack.api.get("/apps/notes/certificates")).json()["items"]
        assert (item["host"], item["certificate"]["source"]) == (HOST, "own")


async def test_a_certificate_is_gone_with_its_host_or_its_app(stack: Stack) -> None:
    async with stack.service():
        await serving(stack, HOST, "www.example.com")
        for host in (HOST, "www.example.com"):
            await set_certificate(stack, host)

        async def ends(host: str) -> bool:
            return await is_served(stack, host) is None

        assert (await stack.api.delete(f"/apps/notes/certificates/{HOST}")).status_code == 204
        await until(lambda: ends(HOST))
        assert await is_served(stack, "www.example.com") is not None
        await stack.sync(hosts=[HOST])  # the next release has it no more
        await until(lambda: ends("www.example.com"))
        await stack.sync(hosts=["www.example.com"])
        assert await is_served(stack, "www.example.com") is not None
        await stack.registry.delete_instance("notes", Track.STABLE, "notes-r1-stable")
        assert (await stack.api.delete("/apps/notes/route")).status_code == 204
        await until(lambda: ends("www.example.com"))


async def test_without_the_keeper_known_hosts_are_served_and_others_end_in_time(stack: Stack) -> None:
    async with stack.service():
        await serving(stack, HOST)
        number = await set_certificate(stack)
        assert await is_served(stack, HOST) == number
    stack.kill_keeper()
    assert await is_served(stack, HOST) == number
    unknown = asyncio.create_task(is_served(stack, "nobody.example.com"))
    await asyncio.sleep(0.1)
    assert not unknown.done()

    stack.start_keeper()

    assert await unknown is None
    assert await keeper_fault(envoy_folder(stack.settings)) is None


async def test_http_is_redirected_and_https_tells_hsts_once_that_is_set(stack: Stack, http: httpx.AsyncClient) -> None:
    async with stack.service(), visitor(stack) as client:
        await serving(stack, HOST, "plain.example.com")
        await set_certificate(stack)
        answer = await stack.api.put("/apps/notes/edge", json={"tls": {"redirect": True, "hsts": 300}})
        assert answer.status_code == 200, answer.text

        moved = await http.post("/a?b=c", headers={"host": HOST, "x-forwarded-proto": "https"})
        assert moved.status_code == 308
        assert moved.headers["location"] == f"https://{HOST}:{stack.settings.https_port}/a?b=c"
        assert (await http.get("/", headers={"host": "plain.example.com"})).text == "stable"
        assert (await get(stack, client)).headers["strict-transport-security"] == "max-age=300"
        refused = await stack.api.put("/apps/notes/edge", json={"tls": {"hsts": 300}})
        assert (refused.status_code, "redirect: true" in refused.text) == (422, True)


async def test_a_certificate_is_changed_under_load_without_a_lost_request(stack: Stack) -> None:
    """One visitor asks on one connection again and again, others with a new connection each; 500 requests a second."""
    async with stack.service(), visitor(stack) as client:
        await serving(stack, HOST)
        await set_certificate(stack)
        faults: list[str] = []
        asked = 0
        until_s = time.monotonic() + 3

        async def visit(keeps: bool) -> None:
            nonlocal asked
            while time.monotonic() < until_s:
                began = time.monotonic()
                try:
                    if keeps:
                        answer = await get(stack, client)
                    else:
                        async with httpx.AsyncClient(verify=context, timeout=10) as fresh:
                            answer = await get(stack, fresh)
                    if answer.text != "stable":
                        faults.append(answer.text)
                except httpx.HTTPError as error:
                    faults.append(repr(error))
                asked += 1
                await asyncio.sleep(max(0, 1 / 50 - (time.monotonic() - began)))

        context = AUTHORITY.context()
        async with asyncio.TaskGroup() as tasks:
            for visitor_number in range(LOAD_PER_S // 50):
                tasks.create_task(visit(keeps=visitor_number > 0))
            for _ in range(5):
                number = await set_certificate(stack)
                await asyncio.sleep(0.3)
        assert faults == []
        assert await is_served(stack, HOST) == number
        assert asked > 30
