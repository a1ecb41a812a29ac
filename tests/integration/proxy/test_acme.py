"""Hosts of apps get certificates by themselves, from Let's Encrypt's test server and through real Envoy."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from services.proxy.envoy.files import envoy_folder
from tests.support.ports import free_port
from tests.support.proxy.authority import served
from tests.support.proxy.pebble import Pebble
from tests.support.proxy.proxy_stack import Stack, running_stack, until

pytestmark = pytest.mark.anyio

HOST = "localhost"
LASTS_S = 9


@pytest.fixture
def public_port() -> int:
    return free_port()


@pytest.fixture
def pebble(tmp_path: Path, public_port: int) -> Iterator[Pebble]:
    pebble = Pebble(tmp_path / "pebble", public_port, LASTS_S)
    yield pebble
    pebble.kill()


@pytest.fixture
def stack(tmp_path: Path, redis_server: str, redis: Redis, pebble: Pebble, public_port: int) -> Iterator[Stack]:
    settings = {
        "public_port": public_port,
        "https_port": free_port(),
        "acme_directory": pebble.directory,
        "acme_ca": pebble.ca,
        "acme_http_port": public_port,
    }
    (tmp_path / "home").mkdir()
    with running_stack(tmp_path / "home", redis_server, redis, **settings) as stack:
        yield stack


async def is_served(stack: Stack, context: ssl.SSLContext) -> str | None:
    with contextlib.suppress(OSError):
        return (await served(stack.settings.https_port, HOST, context))[0]
    return None


async def got(stack: Stack, context: ssl.SSLContext, other_than: str = "") -> str:
    """Waits until the host has a certificate that verifies; returns its serial number."""
    found: list[str] = []

    async def one_is_there() -> bool:
        found[:] = [each for each in [await is_served(stack, context)] if each and each != other_than]
        return bool(found)

    await until(one_is_there, 30)
    return found[0]


async def test_a_host_gets_a_certificate_and_keeps_it_over_restarts_and_it_is_renewed_under_load(
    stack: Stack, pebble: Pebble
) -> None:
    context = pebble.context()
    async with stack.service():
        await stack.put(stack.app("stable"))
        await stack.sync(hosts=[HOST])
        answer = await stack.api.put("/apps/notes/edge", json={"tls": {"redirect": True}})  # no challenge is redirected
        assert answer.status_code == 200
        first = await got(stack, context)
        assert (pebble.count("accounts"), pebble.count("orders")) == (1, 1)
    stack.kill_envoy()
    stack.kill_keeper()
    stack.start_keeper()
    stack.start_envoy()
    whenever = pebble.context(whenever=True)  # a slow machine may need longer than the certificate lasts
    assert await is_served(stack, whenever) == first
    faults: list[str] = []
    asked = 0
    over = asyncio.Event()

    async def visit(client: httpx.AsyncClient) -> None:
        nonlocal asked
        while not over.is_set():
            began = time.monotonic()
            try:
                answer = await client.get("/")
                if answer.text != "stable":
                    faults.append(answer.text)
            except httpx.HTTPError as error:
                faults.append(repr(error))
            asked += 1
            await asyncio.sleep(max(0, 0.05 - (time.monotonic() - began)))

    async with (
        stack.service(),
        httpx.AsyncClient(
            verify=whenever, base_url=f"https://{HOST}:{stack.settings.https_port}", timeout=10
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(10):  # 200 requests a second
            tasks.create_task(visit(client))
        try:
            second = await got(stack, context, other_than=first)
        finally:
            over.set()
        [item] = [
            each for each in (await stack.api.get("/apps/notes/certificates")).json()["items"] if each["host"] == HOST
        ]
        assert (item["certificate"]["source"], item["attempt"]) == ("acme", None)
    assert faults == []
    assert asked > 10
    assert second != first
    assert (pebble.count("accounts"), pebble.count("orders")) == (1, 2)
    assert_keys_are_nowhere(stack)


def assert_keys_are_nowhere(stack: Stack) -> None:
    """No file but that for Envoy has a key."""
    files = [path for path in stack.settings.home.rglob("*") if path.is_file()]
    found = [path for path in files if "PRIVATE KEY" in path.read_text("latin-1")]
    assert found == [envoy_folder(stack.settings) / "certificates" / f"{HOST}.json"]


async def test_while_the_authority_is_away_the_old_certificate_is_served_and_an_alert_names_host_and_reason(
    stack: Stack, pebble: Pebble
) -> None:
    context = pebble.context()
    async with stack.service():
        await stack.put(stack.app("stable"))
        await stack.sync(hosts=[HOST])
        first = await got(stack, context)
        assert (await stack.api.get("/ready")).json()["warnings"] == {}
        pebble.kill()

        async def warned() -> bool:
            text = (await stack.api.get("/ready")).json()["warnings"].get("certificates", "")
            return f"certificate of {HOST} (app notes)" in text and "renewed: the authority does not answer" in text

        await until(warned, 30)
        assert await is_served(stack, pebble.context(whenever=True)) == first


async def test_a_host_that_does_not_lead_here_gets_no_order_and_the_reason_is_shown(
    stack: Stack, pebble: Pebble
) -> None:
    async with stack.service():
        await stack.put(stack.app("stable"))
        await stack.sync(hosts=["nowhere.invalid"])

        async def tried() -> bool:
            return (await stack.api.get("/apps/notes/certificates/nowhere.invalid")).json()["attempt"] is not None

        await until(tried, 15)
        attempt = (await stack.api.get("/apps/notes/certificates/nowhere.invalid")).json()["attempt"]
        assert attempt["reason"].startswith("nowhere.invalid does not lead here (")
        assert pebble.count("orders") == 0
        assert await is_served(stack, pebble.context()) is None  # no app has the host `localhost`
