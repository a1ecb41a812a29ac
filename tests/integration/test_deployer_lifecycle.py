"""Stop, start and restart of an environment, on real Redis and real processes."""

import asyncio
from typing import Any

import pytest

from tests.support.deployer.deployer_stack import Deployer, Outside, visit

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
