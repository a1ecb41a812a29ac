"""Stop, start, restart and removal of an environment, on real Redis and real processes."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from services.deployer.config import Settings
from tests.support.deployer.deployer_stack import Deployer, Outside, visit
from tests.support.events import stored_events

pytestmark = pytest.mark.anyio
ENVIRONMENT = "/apps/notes/environments/production"


async def until_ready(deployer: Deployer, *ids: str) -> list[dict[str, Any]]:
    """Waits until exactly these instances are ready, and no other one is left."""
    async with asyncio.timeout(10):
        while True:
            instances = (await deployer.call("GET", ENVIRONMENT))["instances"]
            if [(each["id"], each["state"]) for each in instances] == [(each, "ready") for each in ids]:
                return list(instances)
            await asyncio.sleep(0.05)


async def test_a_stopped_environment_has_no_instance_until_it_is_started(deployer: Deployer, outside: Outside) -> None:
    await deployer.deployed(outside.build(1))
    for _ in range(2):
        stopped = await deployer.call("POST", f"{ENVIRONMENT}/stop", status=202)
        assert (stopped["state"], stopped["reason"]) == ("stopped", "the environment was stopped by order")
    await until_ready(deployer)
    order = ["ready notes-r1-1", "draining notes-r1-1", "absent notes-r1-1", "term notes-r1-1"]
    assert outside.order(*order) == order
    assert (await deployer.call("GET", "/releases/notes-r1"))["state"] == "live"
    refused = await deployer.call("POST", f"{ENVIRONMENT}/restart", status=409)
    assert "is stopped; start it" in refused["detail"]

    for _ in range(2):
        started = await deployer.call("POST", f"{ENVIRONMENT}/start", status=202)
        assert started["state"] == "running" and started["since"] > stopped["since"]
    [instance] = await until_ready(deployer, "notes-r1-2")
    assert "'SLIPWAY_RELEASE': 'notes-r1'" in await visit(instance)


async def test_a_release_starts_a_stopped_environment(deployer: Deployer, outside: Outside) -> None:
    first = outside.build(1)
    await deployer.deployed(first)
    await deployer.call("POST", f"{ENVIRONMENT}/stop", status=202)
    await until_ready(deployer)
    assert (await deployer.release(first, status=200))["unchanged"]
    await until_ready(deployer, "notes-r1-2")

    await deployer.call("POST", f"{ENVIRONMENT}/stop", status=202)
    await deployer.deployed(outside.build(2))
    await until_ready(deployer, "notes-r2-1")
    assert (await deployer.call("GET", ENVIRONMENT))["state"] == "running"


async def test_a_restart_replaces_each_instance_start_first(deployer: Deployer, outside: Outside) -> None:
    await deployer.deployed(outside.build(1, resources={"replicas": 2, "max_replicas": 2}))
    await deployer.call("POST", f"{ENVIRONMENT}/restart", status=202)
    await until_ready(deployer, "notes-r1-3", "notes-r1-4")
    for old, new in (("notes-r1-1", "notes-r1-3"), ("notes-r1-2", "notes-r1-4")):
        order = [f"ready {new}", f"draining {old}", f"term {old}"]
        assert outside.order(*order) == order


async def test_what_was_never_there_is_not_found(deployer: Deployer) -> None:
    for change in ("stop", "start", "restart"):
        refused = await deployer.call("POST", f"{ENVIRONMENT}/{change}", status=404)
        assert "nothing was ever released" in refused["detail"]


async def until_gone(deployer: Deployer, environment: str = "production") -> None:
    async with asyncio.timeout(10):
        while (await deployer.client.get(f"/apps/notes/environments/{environment}")).status_code != 404:
            await asyncio.sleep(0.05)


async def traces(redis: Redis, settings: Settings) -> list[str]:
    """Keys and files in which the app's name is found, events and changes apart."""
    keys = [str(key) for key in await redis.keys("*notes*")]
    for key in ("deployer:places", "registry:tracks"):
        members: Any = await redis.smembers(key)
        keys += [f"{key} {each}" for each in members if "notes" in each]
    return sorted(keys + [str(path.relative_to(settings.home)) for path in settings.home.rglob("*notes*")])


async def test_nothing_is_left_of_a_removed_environment(
    deployer: Deployer, outside: Outside, redis: Redis, settings: Settings
) -> None:
    await deployer.deployed(outside.build(1))
    await deployer.call("PATCH", ENVIRONMENT, {"secrets": {"KEY": "secret"}})
    await until_ready(deployer, "notes-r1-2")
    removal = await deployer.call("DELETE", ENVIRONMENT, status=202)
    assert removal == {"state": "removing", "waits_for": "waits for its instances to end", "volumes_left": []}
    refused = await deployer.release(outside.build(2), status=409)
    assert "is being removed" in refused["detail"]
    await until_gone(deployer)
    order = ["draining notes-r1-2", "absent notes-r1-2", "term notes-r1-2", "route of notes removed"]
    assert outside.order(*order) == order
    assert await traces(redis, settings) == ["deployer:number:notes"]
    [removed] = [event for event in await stored_events(redis) if event.type == "environment.removed"]
    assert (removed.app, removed.id) == ("notes", "notes/production")
    await deployer.call("DELETE", ENVIRONMENT, status=404)
    for _ in range(2):
        done = await deployer.call("DELETE", "/apps/notes")
        assert done == {"app": "notes", "state": "removed", "waits_for": {}, "volumes_left": {}}
    assert await traces(redis, settings) == []

    await deployer.deployed(outside.build(3))
    [instance] = await until_ready(deployer, "notes-r1-1")
    assert "'SLIPWAY_RELEASE': 'notes-r1'" in await visit(instance)


async def test_the_other_environment_stays_with_the_route(deployer: Deployer, outside: Outside) -> None:
    await deployer.deployed(outside.build(1))
    await deployer.deployed(outside.build(2), "canary")
    syncs = len(outside.syncs)
    await deployer.call("DELETE", "/apps/notes/environments/canary", status=202)
    await until_gone(deployer, "canary")
    assert outside.order("abort notes-r2", "term notes-r2-1") == ["abort notes-r2", "term notes-r2-1"]
    assert "route of notes removed" not in outside.seen
    async with asyncio.timeout(5):
        while len(outside.syncs) < syncs + 2:
            await asyncio.sleep(0.05)
    await until_ready(deployer, "notes-r1-1")


async def test_volumes_stay_unless_they_are_named(deployer: Deployer, outside: Outside, settings: Settings) -> None:
    build = outside.build(1)
    names = ("cache", "data", "uploads")
    outside.builds[build]["manifest"]["volumes"] = [{"name": each, "path": f"/{each}"} for each in names]
    await deployer.deployed(build)
    removal = await deployer.call("DELETE", f"{ENVIRONMENT}?volume=cache", status=202)
    assert removal["volumes_left"] == ["data", "uploads"]
    removal = await deployer.call("DELETE", f"{ENVIRONMENT}?volume=data", status=202)
    assert removal["volumes_left"] == ["uploads"]
    await until_gone(deployer)
    folder = settings.home / "volumes/notes/production"
    assert [path.name for path in folder.iterdir()] == ["uploads"]
    left = await deployer.call("DELETE", "/apps/notes")
    assert left["volumes_left"] == {"production": ["uploads"]}


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0])
async def test_a_removal_goes_on_after_the_deployer_has_died(
    outside: Outside, redis: Redis, settings: Settings, after_s: float
) -> None:
    async with Deployer(settings) as deployer:
        await deployer.deployed(outside.build(1))
        await deployer.deployed(outside.build(2), "canary")
        await deployer.call("DELETE", "/apps/notes", status=202)
        await asyncio.sleep(after_s)
    async with Deployer(settings) as deployer:
        async with asyncio.timeout(15):
            while (await deployer.client.delete("/apps/notes")).status_code != 200:
                await asyncio.sleep(0.05)
        assert await traces(redis, settings) == []
        assert outside.seen[-1] == "route of notes removed"
