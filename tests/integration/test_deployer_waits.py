"""Tests how long a release waits for its real processes, what it says meanwhile, and what takes its place."""

import asyncio

import pytest

from tests.support.deployer.deployer_stack import Deployer, Outside

pytestmark = pytest.mark.anyio
NOT_WELL = "notes-r2-1 does not pass Envoy's health check /up"


async def reason(deployer: Deployer, release: str, part: str) -> str:
    """The release's reason, as soon as it holds `part`."""
    async with asyncio.timeout(10):
        while part not in (said := (await deployer.call("GET", f"/releases/{release}"))["reason"]):
            await asyncio.sleep(0.03)
    return str(said)


async def test_one_that_envoy_does_not_find_well_fails_in_time_and_the_old_one_stays(
    deployer: Deployer, outside: Outside
) -> None:
    await deployer.deployed(outside.build(1))
    outside.unhealthy = "notes-r2-1"
    await deployer.release(outside.build(2))
    assert await reason(deployer, "notes-r2", "Envoy") == f"waits for the proxy: {NOT_WELL}"
    failed = await deployer.until("notes-r2", "failed", "live", within_s=20)
    assert failed["reason"].startswith(f"notes-r2-1: not in the route within 2 s: {NOT_WELL}")
    assert (failed["failure"]["log"], failed["platform_fault"]) == (["listening"], False)
    outside.unhealthy = ""
    async with asyncio.timeout(10):
        while "term notes-r2-1" not in outside.seen:
            await asyncio.sleep(0.03)
    order = ["draining notes-r2-1", "absent notes-r2-1", "term notes-r2-1"]  # as Envoy may have sent it visitors
    assert outside.order(*order) == order
    assert [each["id"] for each in await deployer.instances("ready")] == ["notes-r1-1"]


async def test_an_ill_instance_of_the_old_release_does_not_hold_up_the_new_one(
    deployer: Deployer, outside: Outside
) -> None:
    await deployer.deployed(outside.build(1))
    outside.unhealthy = "notes-r1-1"
    await deployer.release(outside.build(2))
    async with asyncio.timeout(10):
        while "draining" not in {each["state"] for each in await deployer.instances()}:
            await asyncio.sleep(0.03)
    outside.unhealthy = ""  # the proxy does not check what drains
    await deployer.until("notes-r2", "live")


@pytest.mark.slow
async def test_the_clock_stands_while_the_proxy_is_away(deployer: Deployer, outside: Outside) -> None:
    outside.works = False
    await deployer.release(outside.build(1))
    said = await reason(deployer, "notes-r1", "does not count")
    assert said == "waits for the proxy: Envoy has not confirmed; this time does not count"
    async with asyncio.timeout(20):
        while (wait := (await deployer.call("GET", "/releases/notes-r1"))["wait"])["away_s"] < 3:
            await asyncio.sleep(0.1)
    assert wait["is_held"] and wait["waited_s"] < wait["limit_s"] == 2
    outside.works = True
    assert (await deployer.until("notes-r1", "live", "failed"))["state"] == "live"


async def test_a_newer_release_takes_the_place_of_one_that_has_no_visitors(
    deployer: Deployer, outside: Outside
) -> None:
    await deployer.deployed(outside.build(1))
    await deployer.release(outside.build(2, command="503"))
    said = "waits for notes-r2-1 to be ready: GET /up with Host notes.localhost answered 503"
    await reason(deployer, "notes-r2", said)
    await deployer.deployed(outside.build(3))
    older = await deployer.call("GET", "/releases/notes-r2")
    why = "superseded by notes-r3 before any of its instances was routable"
    assert (older["state"], older["reason"], older["superseded_by"]) == ("retired", why, "notes-r3")
    assert (older["live_at"], (await deployer.call("GET", "/releases/notes-r3"))["previous"]) == (None, "notes-r1")
