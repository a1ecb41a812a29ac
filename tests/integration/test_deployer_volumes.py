"""Releases with a volume, stop-first, on real Redis and real processes."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from services.deployer.config import Settings
from shared.models import Event
from tests.support.deployer.deployer_stack import Deployer, Outside, visit

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
PRODUCTION = "/apps/notes/environments/production"
# Says when it starts and when it has ended: two at a time would be seen.
DIARY = 'd=$SLIPWAY_VOLUME_DATA/diary; echo "$SLIPWAY_INSTANCE begins" >> $d; {}; echo "$SLIPWAY_INSTANCE ends" >> $d'


def build(outside: Outside, number: int, command: str | None = None) -> str:
    """Adds a build of an app that keeps a diary in its volume `data`; `command` replaces the server."""
    build_id = outside.build(number)
    manifest = outside.builds[build_id]["manifest"]
    manifest["volumes"] = [{"name": "data", "path": "/data"}]
    manifest["run"]["command"] = DIARY.format(command or manifest["run"]["command"])
    return build_id


def diary(settings: Settings, environment: str = "production") -> list[str]:
    return (settings.home / "volumes" / "notes" / environment / "data" / "diary").read_text().splitlines()


def begun(settings: Settings) -> list[str]:
    return [line.removesuffix(" begins") for line in diary(settings) if line.endswith(" begins")]


async def until_ready(deployer: Deployer, instance: str) -> dict[str, Any]:
    """It is the only one."""
    async with asyncio.timeout(10):
        while [(each["id"], each["state"]) for each in await deployer.instances()] != [(instance, "ready")]:
            await asyncio.sleep(0.03)
    found: dict[str, Any] = (await deployer.instances())[0]
    return found


async def down_s(deployer: Deployer, release: str) -> float:
    """Known once visitors are served again."""
    async with asyncio.timeout(10):
        while (found := (await deployer.call("GET", f"/releases/{release}"))["down_s"]) is None:
            await asyncio.sleep(0.03)
    return float(found)


async def test_the_old_instance_ends_before_the_new_one_begins_and_its_loss_is_said(
    deployer: Deployer, outside: Outside, settings: Settings, redis: Redis
) -> None:
    await deployer.deployed(build(outside, 1))
    first = await deployer.call("GET", "/releases/notes-r1")
    assert (first["strategy"], first["down_s"]) == ("stop-first", None)
    await deployer.deployed(build(outside, 2))
    order = ["draining notes-r1-1", "absent notes-r1-1", "term notes-r1-1", "ready notes-r2-1"]
    assert outside.order(*order) == order
    assert diary(settings) == ["notes-r1-1 begins", "notes-r1-1 ends", "notes-r2-1 begins"]

    second = await deployer.call("GET", "/releases/notes-r2")
    assert second["strategy"] == "stop-first" and 0 < second["down_s"] < 10
    entries: Any = await redis.xrange("events")
    stored = [Event.model_validate_json(fields["event"]).model_dump() for _, fields in entries]
    live = [event for event in stored if event["type"] == "release.live"]
    assert [(each["strategy"], each.get("down_s")) for each in live] == [
        ("stop-first", None),
        ("stop-first", second["down_s"]),
    ]

    await deployer.deployed(build(outside, 3), "canary")
    assert diary(settings, "canary") == ["notes-r3-1 begins"]


async def test_a_release_that_fails_gives_the_place_back_with_its_data(
    deployer: Deployer, outside: Outside, settings: Settings
) -> None:
    await deployer.deployed(build(outside, 1))
    await deployer.release(build(outside, 2, "echo out of luck; exit 7"))
    failed = await deployer.until("notes-r2", "failed", "live")
    assert failed["state"] == "failed" and failed["reason"].endswith("; notes-r1 is started again")
    assert failed["failure"]["log"] == ["out of luck"]
    await until_ready(deployer, "notes-r1-2")
    assert diary(settings) == ["notes-r1-1 begins", "notes-r1-1 ends", "notes-r2-1 begins", "notes-r1-2 begins"]
    assert await down_s(deployer, "notes-r2") > 0


async def test_the_place_is_given_back_also_by_a_later_life_of_the_deployer(
    settings: Settings, outside: Outside
) -> None:
    async with Deployer(settings) as first:
        await first.deployed(build(outside, 1))
        await first.release(build(outside, 2, "sleep 60"))
        async with asyncio.timeout(10):
            while "notes-r2-1" not in [each["id"] for each in await first.instances("starting")]:
                await asyncio.sleep(0.02)
    async with Deployer(settings) as second:
        failed = await second.until("notes-r2", "failed", "live")
        assert "not ready within" in failed["reason"]
        await until_ready(second, "notes-r1-2")
        assert await down_s(second, "notes-r2") > 2  # its patience with one that does not get ready
    assert [line for line in diary(settings) if "begins" in line] == [
        f"notes-r{n} begins" for n in ("1-1", "2-1", "1-2")
    ]


async def test_what_cannot_be_started_is_found_out_while_the_old_one_serves(
    deployer: Deployer, outside: Outside, settings: Settings
) -> None:
    await deployer.deployed(build(outside, 1))
    second = build(outside, 2)
    outside.works = False
    await deployer.release(second)
    async with asyncio.timeout(10):
        while "Envoy has not confirmed" not in (await deployer.call("GET", "/releases/notes-r2"))["reason"]:
            await asyncio.sleep(0.03)
    assert [each["id"] for each in await deployer.instances("ready")] == ["notes-r1-1"], "without proxy it stays"
    outside.works = True
    await deployer.until("notes-r2", "live")

    third = build(outside, 3)
    outside.builds[third]["artifact"] = {"kind": "image", "ref": "notes:3", "digest": "sha256:3"}
    refused = await deployer.release(third, status=409)
    assert "processes run from a directory" in refused["detail"]
    assert [each["id"] for each in await deployer.instances("ready")] == ["notes-r2-1"]
    assert diary(settings)[-1] == "notes-r2-1 begins"


async def test_a_crash_and_other_variables_replace_the_instance_one_after_the_other(
    deployer: Deployer, outside: Outside, settings: Settings
) -> None:
    await deployer.deployed(build(outside, 1))
    await asyncio.sleep(settings.watch_s)
    [instance] = await deployer.instances("ready")
    with pytest.raises(Exception, match="disconnected"):
        await visit(instance, "/crash")
    await until_ready(deployer, "notes-r1-2")
    await deployer.call("PATCH", PRODUCTION, {"variables": {"GREETING": "hello"}})
    assert "'GREETING': 'hello'" in await visit(await until_ready(deployer, "notes-r1-3"))
    begun_and_ended = [f"notes-r1-{n} {what}" for n in (1, 2) for what in ("begins", "ends")]
    assert diary(settings) == [*begun_and_ended, "notes-r1-3 begins"]
    refused = await deployer.call("PATCH", PRODUCTION, {"replicas": 2}, status=422)
    assert "an app with a volume runs as one instance" in refused["errors"][0]["detail"]


async def test_a_rollback_finds_the_data_of_all_before_it(
    deployer: Deployer, outside: Outside, settings: Settings
) -> None:
    for number in (1, 2):
        await deployer.deployed(build(outside, number))
    await deployer.call("POST", f"{PRODUCTION}/rollback", {}, status=202)
    back = await deployer.until("notes-r3", "live")
    assert back["strategy"] == "stop-first" and back["down_s"] > 0
    assert begun(settings) == ["notes-r1-1", "notes-r2-1", "notes-r3-1"]
