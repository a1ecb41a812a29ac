"""Variables and secrets from the order to the app, and where they are not, on real Redis and processes."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.deployer.config import Settings
from services.deployer.drivers.process.end import stop_instances
from services.deployer.main import app_facts
from shared.clock import now
from shared.models import Environment
from shared.store import connect
from tests.support.deployer.deployer_stack import Deployer, Outside, Server, settings_for, visit
from tests.support.ports import free_port, wait_for_port

pytestmark = pytest.mark.anyio
PRODUCTION, CANARY = "/apps/notes/environments/production", "/apps/notes/environments/canary"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "redis"
    folder.mkdir()
    own = Server(folder)
    yield own
    own.kill()


@pytest.fixture
async def redis(server: Server) -> AsyncIterator[Redis]:
    client = connect(server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def settings(server: Server, outside: Outside, tmp_path: Path) -> AsyncIterator[Settings]:
    made = settings_for(tmp_path / "home", server.url, outside)
    yield made
    await asyncio.to_thread(stop_instances, made.home, 0.5)


async def greeted(deployer: Deployer, greeting: str | None, environment: str = "production") -> str:
    """The id of the only instance that is left, once that is one with this greeting."""
    async with asyncio.timeout(10):
        while True:
            found = await deployer.instances(environment=environment)
            if [each["state"] for each in found] == ["ready"] and f"'GREETING': {greeting!r}" in await visit(found[0]):
                return str(found[0]["id"])
            await asyncio.sleep(0.03)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def flags_token(settings: Settings) -> str:
    """Returns the token for flags that production's apps get, derived from the platform's present token."""
    return app_facts(settings).flags_tokens[Environment.PRODUCTION]


def needy(outside: Outside, number: int) -> str:
    """A build whose app does not start without a greeting."""
    build = outside.build(number)
    run = outside.builds[build]["manifest"]["run"]
    run["command"] = f'test -n "$GREETING" || exit 9; exec {run["command"]}'
    return build


@pytest.mark.slow
async def test_a_secret_replaces_instances_start_first_and_is_inherited(deployer: Deployer, outside: Outside) -> None:
    await deployer.deployed(outside.build(1))
    before = now()
    answer = await deployer.call("PATCH", PRODUCTION, {"secrets": {"GREETING": "hush-1"}})
    assert answer["desired"]["variables"] == {} and "hush" not in str(answer)
    [(name, secret)] = answer["desired"]["secrets"].items()
    assert name == "GREETING" and list(secret) == ["set_at"]
    assert before <= datetime.fromisoformat(secret["set_at"]) <= now() + timedelta(seconds=1)

    assert await greeted(deployer, "hush-1") == "notes-r1-2"
    async with asyncio.timeout(5):
        while "term notes-r1-1" not in outside.seen:
            await asyncio.sleep(0.02)
    order = ["ready notes-r1-2", "draining notes-r1-1", "absent notes-r1-1", "term notes-r1-1"]
    assert outside.order(*order) == order

    await deployer.deployed(outside.build(2))
    assert await greeted(deployer, "hush-1") == "notes-r2-1"
    await deployer.call("PATCH", PRODUCTION, {"secrets": {"GREETING": "hush-1"}, "variables": {"OTHER": None}})
    await asyncio.sleep(0.5)
    assert await greeted(deployer, "hush-1") == "notes-r2-1"  # the same value is no other configuration
    await deployer.call("PATCH", PRODUCTION, {"secrets": {"GREETING": None}})
    await greeted(deployer, None)
    assert (await deployer.environment())["desired"]["secrets"] == {}


async def test_a_name_is_moved_by_setting_it_as_the_other(deployer: Deployer, outside: Outside) -> None:
    await deployer.deployed(outside.build(1))
    await deployer.call("PATCH", PRODUCTION, {"secrets": {"GREETING": "hush"}})
    moved = await deployer.call("PATCH", PRODUCTION, {"variables": {"GREETING": "hello"}})
    assert (moved["desired"]["variables"], moved["desired"]["secrets"]) == ({"GREETING": "hello"}, {})
    await greeted(deployer, "hello")


async def test_what_an_app_needs_to_start_is_set_before_its_first_release(deployer: Deployer, outside: Outside) -> None:
    await deployer.call("GET", PRODUCTION, status=404)
    for change in ({"replicas": 1}, {"memory": "64m", "secrets": {"GREETING": "hush"}}):
        refused = await deployer.call("PATCH", PRODUCTION, change, status=409)
        assert "variables and secrets can be set before" in refused["detail"]
    await deployer.call("GET", PRODUCTION, status=404)

    body = {"secrets": {"GREETING": "hush"}, "variables": {"SHOWN": "yes"}}
    for answer in (await deployer.call("PATCH", PRODUCTION, body), await deployer.environment()):
        assert (answer["release"], answer["instances"], answer["problem"]) == (None, [], None)
        assert (answer["desired"]["variables"], list(answer["desired"]["secrets"])) == ({"SHOWN": "yes"}, ["GREETING"])
    emptied = await deployer.call("PATCH", PRODUCTION, {"secrets": {"GREETING": None}, "variables": {"SHOWN": None}})
    assert (emptied["desired"]["variables"], emptied["desired"]["secrets"]) == ({}, {})
    await deployer.call("PATCH", PRODUCTION, body)
    await deployer.deployed(needy(outside, 1))
    assert await greeted(deployer, "hush") == "notes-r1-1"


async def test_after_a_first_release_that_failed_what_it_lacked_can_be_set(
    deployer: Deployer, outside: Outside
) -> None:
    build = needy(outside, 1)
    await deployer.release(build)
    assert "exit code 9" in (await deployer.until("notes-r1", "failed"))["reason"]
    await deployer.call("PATCH", PRODUCTION, {"secrets": {"GREETING": "hush"}})
    await deployer.release(build)
    await deployer.until("notes-r2", "live")


async def test_environments_are_apart_and_a_promoted_build_gets_productions_own(
    deployer: Deployer, outside: Outside
) -> None:
    await deployer.call("PATCH", PRODUCTION, {"secrets": {"GREETING": "hush-production"}})
    await deployer.call("PATCH", CANARY, {"secrets": {"GREETING": "hush-canary", "MORE": "hush"}})
    build = outside.build(1)
    await deployer.deployed(build, "canary")
    await greeted(deployer, "hush-canary", "canary")
    await deployer.deployed(build)  # as the proxy asks for at a promotion
    await greeted(deployer, "hush-production")
    assert list((await deployer.environment())["desired"]["secrets"]) == ["GREETING"]


async def test_what_cannot_be_is_refused_by_field_and_without_the_value(deployer: Deployer) -> None:
    for body, field in (
        ({"secrets": {"SLIPWAY_TOKEN": "hush"}}, "secrets.SLIPWAY_TOKEN"),
        ({"secrets": {"1X": "hush"}}, "secrets.1X"),
        ({"secrets": {"X": "hush\0"}}, "secrets.X"),
        ({"secrets": {"X": "hush" * 20_000}}, "secrets.X"),
        ({"secrets": {f"X{n}": "hush" * 15_000 for n in range(5)}}, "secrets"),
        ({"secrets": {"X": "hush"}, "variables": {"X": "hush"}}, "secrets.X"),
        ({"secrets": {"X": ["hush"]}}, "secrets.X"),
        ({"secrets": "hush"}, "secrets"),
        ({"secret": {"X": "hush"}}, "secret"),
        ({"variables": {"X": {"hush": "hush"}}}, "variables.X"),
    ):
        answer = await deployer.client.patch(PRODUCTION, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text
        assert "hush" not in answer.text
    as_json = {"Content-Type": "application/json"}
    for sent in ('{"X": "hush\\ud800"}', '{"\\ud800": "hush"}', '{"\\ud800": ["hush"]}', '{"X": hush}'):
        answer = await deployer.client.patch(PRODUCTION, content=f'{{"secrets": {sent}}}', headers=as_json)
        assert answer.status_code == 422 and "hush" not in answer.text
    await deployer.call("GET", PRODUCTION, status=404)


async def test_the_platforms_token_may_be_changed(settings: Settings, outside: Outside) -> None:
    async with Deployer(settings) as before:
        await before.call("PATCH", PRODUCTION, {"secrets": {"GREETING": "hush"}})
        await before.deployed(outside.build(1))
        assert flags_token(settings) in await visit((await before.instances())[0])
    settings.token = SecretStr("another-token")
    async with Deployer(settings) as after:
        after.client.headers["Authorization"] = "Bearer another-token"
        async with asyncio.timeout(10):
            while await greeted(after, "hush") != "notes-r1-2":
                await asyncio.sleep(0.03)
        [instance] = await after.instances()
        assert flags_token(settings) in await visit(instance)
        assert (await after.environment())["problem"] is None
    assert outside.seen.index("ready notes-r1-2") < outside.seen.index("draining notes-r1-1")


@pytest.mark.slow
async def test_a_lost_key_leaves_alone_what_runs_and_comes_back_or_is_done_without(
    settings: Settings, outside: Outside
) -> None:
    key = settings.home / "key"
    async with Deployer(settings) as first:
        await first.call("PATCH", PRODUCTION, {"secrets": {"GREETING": "hush"}, "variables": {"SHOWN": "yes"}})
        await first.deployed(outside.build(1))
    assert key.stat().st_mode & 0o777 == 0o600
    kept = key.read_text()
    key.unlink()
    remedy = "the values of GREETING, SHOWN cannot be decrypted; restore <home>/key and restart the deployer"
    async with Deployer(settings) as second:
        await asyncio.sleep(1)
        assert await greeted(second, "hush") == "notes-r1-1"
        assert (await second.call("GET", "/releases/notes-r1"))["instances_made"] == 1
        environment = await second.call("PATCH", PRODUCTION, {"memory": "96m"})
        assert environment["problem"].startswith(remedy)
        assert list(environment["desired"]["secrets"]) == ["GREETING"]
        await second.release(outside.build(2))
        assert remedy in (await second.until("notes-r2", "failed"))["reason"]
        assert (await second.call("GET", "/ready"))["ready"] is True

    forgotten = key.read_text()
    key.write_text(f"{kept}{forgotten}")
    async with Deployer(settings) as third:
        assert (await third.environment())["problem"] is None
        await third.deployed(outside.build(3))
        assert await greeted(third, "hush") == "notes-r3-1"

    key.write_text(forgotten)
    async with Deployer(settings) as fourth:
        again = await fourth.call("PATCH", PRODUCTION, {"secrets": {"GREETING": "anew"}})
        assert again["problem"].startswith("the values of SHOWN cannot")
        again = await fourth.call("PATCH", PRODUCTION, {"variables": {"SHOWN": None}})
        assert again["problem"] is None
        await greeted(fourth, "anew")


async def test_no_value_is_anywhere_but_in_the_apps_environment(
    settings: Settings, outside: Outside, redis: Redis, tmp_path: Path
) -> None:
    """The real service as a process of its own, whose log tells everything; Redis with AOF and a dump."""
    value, port, log = "hush-7d1f0c", free_port(), tmp_path / "deployer.log"
    environment = {
        **os.environ,
        "SLIPWAY_HOME": str(settings.home),
        "SLIPWAY_TOKEN": "secret-token",
        "SLIPWAY_REDIS_URL": settings.redis_url,
        "SLIPWAY_DEPLOYER_PORT": str(port),
        "SLIPWAY_BUILD_PORT": str(outside.port),
        "SLIPWAY_PROXY_PORT": str(outside.port),
        "SLIPWAY_LOG_LEVEL": "DEBUG",
    }
    failing = outside.build(2)
    outside.builds[failing]["manifest"]["run"]["command"] = "exit 7"
    with log.open("wb") as file:
        service = subprocess.Popen(
            [sys.executable, "-m", "services.deployer"], env=environment, stderr=file, stdout=file
        )
    answers: list[str] = []
    headers = {"Authorization": "Bearer secret-token"}
    try:
        await asyncio.to_thread(wait_for_port, port)
        async with httpx.AsyncClient(verify=False, base_url=f"http://127.0.0.1:{port}", headers=headers) as client:

            async def ask(method: str, path: str, body: Any = None) -> Any:
                answer = await client.request(method, path, json=body)
                answers.append(f"{answer.headers} {answer.text}")
                return answer.json() if "json" in answer.headers["content-type"] else answer.text

            async def ended(release: str, state: str) -> None:
                async with asyncio.timeout(10):
                    while (await ask("GET", f"/releases/{release}"))["state"] != state:
                        await asyncio.sleep(0.05)

            await ask("PATCH", PRODUCTION, {"secrets": {"GREETING": f"{value}-0"}})
            await ask("POST", f"{PRODUCTION}/releases", {"build": outside.build(1)})
            await ended("notes-r1", "live")
            await ask("PATCH", PRODUCTION, {"secrets": {"GREETING": value, "LONG": value * 10_000}})
            await ask("PATCH", PRODUCTION, {"secrets": {"GREETING": value}})
            async with asyncio.timeout(10):
                while [each["id"] for each in (await ask("GET", PRODUCTION))["instances"]] != ["notes-r1-2"]:
                    await asyncio.sleep(0.05)
            [instance] = (await ask("GET", PRODUCTION))["instances"]
            assert value in await visit(instance)
            await ask("POST", f"{PRODUCTION}/releases", {"build": failing})
            await ended("notes-r2", "failed")
            for path in ("/registry", "/stats", "/metrics", "/ready", f"{PRODUCTION}/logs", f"{PRODUCTION}/releases"):
                await ask("GET", path)
        commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    finally:
        service.terminate()
        service.wait(10)
    await redis.save()
    events: Any = await redis.xrange("events")
    texts = {"an answer": "".join(answers), "the events": str(events), "a process list": "\n".join(commands)}
    assert [where for where, text in texts.items() if value in text] == []
    found = contents(tmp_path)
    assert [str(path) for path, content in found.items() if value.encode() in content] == []
    names = {path.name for path in found}
    assert {"deployer.log", "dump.rdb", "key", "record.json"} <= names and any(".aof" in name for name in names)
    assert b"notes-r1-2 instance.ready" in log.read_bytes()
