"""Memory limits from order to kernel: changed while instances run, raised after a kill, told."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.deployer.config import Settings
from services.deployer.drivers.process.end import stop_instances
from shared.manifest import MIB
from shared.models import Event
from tests.support.deployer.deployer_stack import Deployer, Outside, settings_for, visit
from tests.support.deployer.machine import leftovers, writable_parent

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
PATH = "/apps/notes/environments/production"
RESOURCES = {"memory": "64m", "max_memory": "256m"}


@pytest.fixture(params=["cgroup", "guard"])
async def settings(
    request: pytest.FixtureRequest, outside: Outside, redis_server: str, tmp_path: Path
) -> AsyncIterator[Settings]:
    home = tmp_path / "home"
    if request.param == "cgroup":
        writable_parent(home)
    made = settings_for(home, redis_server, outside)
    yield made.model_copy(update={"memory_limits": request.param, "watch_s": 10})
    await asyncio.to_thread(stop_instances, home, 0.5)
    assert list(leftovers(home)) == []


async def events(redis: Redis, kind: str) -> list[dict[str, Any]]:
    entries: Any = await redis.xrange("events")
    found = [Event.model_validate_json(fields["event"]) for _, fields in entries]
    return [event.model_dump() for event in found if event.type.startswith(kind)]


async def until(
    deployer: Deployer, condition: Callable[[dict[str, Any]], object], within_s: float = 8
) -> dict[str, Any]:
    """The only instance that is ready, as soon as it is as expected."""
    async with asyncio.timeout(within_s):
        while True:
            found: list[dict[str, Any]] = await deployer.instances("ready")
            if len(found) == 1 and condition(found[0]):
                return found[0]
            await asyncio.sleep(0.03)


async def stats(deployer: Deployer) -> dict[str, Any]:
    [item] = (await deployer.call("GET", "/stats"))["items"]
    found: dict[str, Any] = item
    return found


async def test_a_limit_is_changed_without_a_restart_and_not_below_what_is_used(
    deployer: Deployer, outside: Outside
) -> None:
    await deployer.deployed(outside.build(1, resources=RESOURCES))
    [before] = await deployer.instances("ready")
    assert before["memory_limit"] == 64 * MIB
    changed = await deployer.call("PATCH", PATH, {"memory": "128m"})
    assert changed["desired"]["memory"] == 128 * MIB
    instance = await until(deployer, lambda i: i["memory_limit"] == 128 * MIB)
    assert (instance["id"], instance["address"]) == ("notes-r1-1", before["address"])
    assert instance["updated_at"] > before["updated_at"]
    assert (await stats(deployer))["memory_limit"] == 128 * MIB

    await visit(instance, "/eat/70")
    await asyncio.sleep(1.5)  # three looks of the guard
    await deployer.call("PATCH", PATH, {"memory": 80 * MIB})
    instance = await until(deployer, lambda i: i["memory_refusal"])
    assert re.fullmatch(
        r"notes-r1-1 uses [\d.]+ MiB, more than 80 % of 80 MiB; it keeps its limit of 128 MiB",
        instance["memory_refusal"],
    )
    now = await stats(deployer)
    assert (now["id"], now["memory_limit"], now["restarts"], now["oom_kills"]) == ("notes-r1-1", 128 * MIB, 0, 0)
    assert now["working_set"] > 70 * MIB

    await deployer.call("PATCH", PATH, {"memory": 192 * MIB})
    assert (await until(deployer, lambda i: i["memory_limit"] == 192 * MIB))["memory_refusal"] == ""
    # A release inherits what was asked for.
    await deployer.deployed(outside.build(2, resources=RESOURCES))
    assert (await until(deployer, lambda i: i["release"] == "notes-r2"))["memory_limit"] == 192 * MIB


async def test_a_limit_outlives_the_deployer(settings: Settings, outside: Outside, redis: Redis) -> None:
    async with Deployer(settings) as first:
        await first.deployed(outside.build(1, resources=RESOURCES))
        await first.call("PATCH", PATH, {"memory": "128m"})
        await until(first, lambda i: i["memory_limit"] == 128 * MIB)
    async with Deployer(settings) as second:
        assert (await stats(second))["memory_limit"] == 128 * MIB
        await second.call("PATCH", PATH, {"memory": "192m"})
        instance = await until(second, lambda i: i["memory_limit"] == 192 * MIB)
        with contextlib.suppress(httpx.TransportError):  # it may be killed before it can answer
            await visit(instance, "/eat/250")
        await until(second, lambda i: i["id"] == "notes-r1-2")
    [killed] = await events(redis, "instance.failed")
    assert (killed["oom_killed"], killed["memory_limit"]) == (True, 192 * MIB)


async def test_a_release_that_needs_more_gets_it_and_lives(deployer: Deployer, outside: Outside, redis: Redis) -> None:
    await deployer.release(outside.build(1, command="200 100", resources=RESOURCES))
    instance = await until(deployer, lambda i: i["memory_limit"] == 128 * MIB)
    assert instance["id"] == "notes-r1-2"
    await deployer.until("notes-r1", "live")
    [killed] = await events(redis, "instance.failed")
    assert killed["reason"] == "killed: out of memory at its limit of 64 MiB"
    assert (killed["oom_killed"], killed["memory_limit"], killed["max_memory"]) == (True, 64 * MIB, 256 * MIB)
    assert (killed["release"], killed["notify"]) == ("notes-r1", ["mailto://a@b.example"])
    now = await stats(deployer)
    assert (now["restarts"], now["oom_kills"], now["max_memory"]) == (1, 1, 256 * MIB)
    assert (await deployer.environment())["desired"]["memory"] == 128 * MIB
    assert not await events(redis, "release.rolled_back")


async def test_a_release_that_needs_more_than_its_maximum_is_a_failure(
    deployer: Deployer, outside: Outside, redis: Redis
) -> None:
    await deployer.release(outside.build(1, command="200 150", resources={"memory": "64m", "max_memory": "96m"}))
    reason = "killed: out of memory at its maximum of 96 MiB; raise resources.max_memory or mend the app"
    async with asyncio.timeout(10):
        while (failure := (await deployer.call("GET", "/releases/notes-r1"))["failure"]) is None:
            await asyncio.sleep(0.05)
    assert (failure["reason"], failure["exit_code"], failure["instance"]) == (reason, 137, "notes-r1-2")
    assert [each["oom_killed"] for each in (await events(redis, "instance.failed"))[:2]] == [True, True]
