"""An artifact that is gone: the deployer has its commit built again, on real Redis and real processes."""

import asyncio
import shutil
from typing import Any

import pytest
from redis.asyncio import Redis

from services.deployer.config import Settings
from shared.models import Event
from tests.support.deployer.deployer_stack import Deployer, Outside, visit
from tests.support.events import stored_events

pytestmark = pytest.mark.anyio
COMMIT = f"{1:040x}"


async def until_problem(deployer: Deployer, text: str, environment: str = "production") -> None:
    async with asyncio.timeout(10):
        while text not in str((await deployer.environment(environment))["problem"]):
            await asyncio.sleep(0.03)


async def without_artifact(deployer: Deployer, outside: Outside, environment: str = "production") -> None:
    """The environment's release `notes-r1` has lost its artifact, and starts again."""
    await deployer.deployed(outside.build(1), environment)
    shutil.rmtree(outside.artifact("notes-1"))
    path = f"/apps/notes/environments/{environment}"
    await deployer.call("POST", f"{path}/stop", status=202)
    async with asyncio.timeout(10):
        while await deployer.instances(environment=environment):
            await asyncio.sleep(0.03)
    await deployer.call("POST", f"{path}/start", status=202)


async def artifact_events(redis: Redis) -> list[Event]:
    return [event for event in await stored_events(redis) if event.type.startswith("artifact.")]


@pytest.mark.parametrize("environment", ["production", "canary"])
async def test_a_missing_artifact_is_built_again_and_the_app_serves_by_itself(
    settings: Settings, outside: Outside, redis: Redis, environment: str
) -> None:
    again: dict[str, Any] = {"commit": COMMIT, "rebuilds": "notes-r1"}
    async with Deployer(settings) as deployer:
        outside.rebuilt = outside.build(2, **again)
        await without_artifact(deployer, outside, environment)
        await until_problem(deployer, "there is no directory notes-1; notes-2 builds its commit again", environment)
        released = await deployer.call("GET", "/releases/notes-r1")
        assert (released["state"], released["problem"][:32]) == ("live", "there is no directory notes-1; n")
    async with Deployer(settings) as deployer:  # killed meanwhile, it asks for no second build
        await until_problem(deployer, "notes-2 builds its commit again", environment)
        assert (await deployer.release("notes-2", environment))["id"] == "notes-r2"
        assert (await deployer.release("notes-2", environment))["id"] == "notes-r2"
        await deployer.until("notes-r2", "live")
        assert (await deployer.environment(environment))["problem"] is None
        [instance] = await deployer.instances("ready", environment=environment)
        assert "'SLIPWAY_RELEASE': 'notes-r2'" in await visit(instance)
        before = await deployer.call("GET", "/releases/notes-r1")
        assert (before["state"], before["reason"], before["problem"]) == ("retired", "replaced by notes-r2", None)
        assert (await deployer.release("notes-2", environment, status=200))["unchanged"]
    assert outside.rebuilds == [{"release": "notes-r1", "environment": environment, "commit": COMMIT}]
    [gone] = await artifact_events(redis)
    assert (gone.type, gone.id, gone.reason) == (
        "artifact.gone", "notes-r1", "there is no directory notes-1; its commit is built again",
    )  # fmt: skip
    failures = [event for event in await stored_events(redis) if event.type in ("instance.failed", "release.failed")]
    assert failures == []


async def test_an_artifact_of_the_same_content_is_a_release_of_its_own(deployer: Deployer, outside: Outside) -> None:
    outside.rebuilt = outside.build(2, commit=COMMIT, rebuilds="notes-r1")
    (outside.artifact("notes-2") / "number").write_text("1")
    await without_artifact(deployer, outside)
    await until_problem(deployer, "notes-2 builds")
    digest = outside.builds["notes-1"]["artifact"]["digest"]
    outside.builds["notes-2"]["artifact"]["digest"] = digest
    assert (await deployer.release("notes-2"))["id"] == "notes-r2"
    await deployer.until("notes-r2", "live")


async def test_what_cannot_be_built_again_is_told_until_a_newer_release_is_there(
    deployer: Deployer, outside: Outside, redis: Redis
) -> None:
    await without_artifact(deployer, outside)
    text = "could not be built again: the repository of notes has no such commit any more. Push a commit; else next try"
    await until_problem(deployer, text)
    assert len(outside.rebuilds) == 1
    gone, lost = await artifact_events(redis)
    assert (gone.type, lost.type, lost.id) == ("artifact.gone", "artifact.lost", "notes-r1")
    assert text in lost.reason and lost.notify == ["mailto://a@b.example"]
    await deployer.deployed(outside.build(2))
    assert (await deployer.environment())["problem"] is None


async def test_a_rebuild_that_is_needed_no_more_is_refused(deployer: Deployer, outside: Outside) -> None:
    rebuilt = outside.build(2, commit=COMMIT, rebuilds="notes-r1")
    await deployer.deployed(outside.build(1))
    refused = await deployer.release(rebuilt, status=409)
    assert refused["detail"] == "notes-r1, whose artifact notes-2 was to replace, needs it no more"
    outside.rebuilt = rebuilt
    shutil.rmtree(outside.artifact("notes-1"))
    await deployer.call("POST", "/apps/notes/environments/production/restart", status=202)
    await until_problem(deployer, "notes-2 builds its commit again")
    [serving] = await deployer.instances("ready")
    assert serving["id"] == "notes-r1-1", "what still runs serves on"
    assert "notes-r1" in await visit(serving)
    await deployer.call("POST", "/apps/notes/environments/production/stop", status=202)
    assert (await deployer.release(rebuilt, status=409))["detail"]
    await deployer.call("POST", "/apps/notes/environments/production/start", status=202)
    await until_problem(deployer, "notes-2 builds its commit again")
    await deployer.deployed(rebuilt)
