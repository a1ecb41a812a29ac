"""A canary's harms are judged against production's over the same seconds, by the monitor's loops as they run."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.monitor.alerts.alert import AlertState
from services.monitor.config import Settings
from services.monitor.rules.rule import DEFAULTS, Metric, Rule
from shared import events
from shared.models import Event
from tests.support.monitor.monitor_world import Monitor, World

pytestmark = pytest.mark.anyio
CANARY, STABLE = "notes-r9-1", "notes-r8-1"


@pytest.fixture
def world() -> World:
    return World(production={STABLE: "ready"})


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as client:
        yield client


@pytest.fixture
def monitor(world: World, tmp_path: Path, http: httpx.AsyncClient, redis: Redis) -> Monitor:
    return Monitor(world, Settings(home=tmp_path, token=SecretStr("token")), http, redis)


def reasons(world: World) -> list[str]:
    return [abort["reason"] for abort in world.aborts]


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("canary", "stable"), [((109, 31), (12, 3)), ((61, 5), (6, 2))])
async def test_an_outage_of_both_with_few_requests_to_production_blames_nobody(
    monitor: Monitor, world: World, canary: tuple[int, int], stable: tuple[int, int]
) -> None:
    """Is case run/06: the canary has 95 %, and both fail the same share of requests."""
    world.weight = 95
    await monitor.second()
    for part in range(10):  # the same figures, second by second
        spread = [[count * (part + 1) // 10 - count * part // 10 for count in counts] for counts in (canary, stable)]
        await monitor.second(canary=(spread[0][0], spread[0][1]), stable=(spread[1][0], spread[1][1]))
    for _ in range(30):
        await monitor.second()
    assert (world.aborts, world.state) == ([], "progressing")


async def test_a_canary_with_few_visitors_who_all_get_errors_is_aborted(monitor: Monitor, world: World) -> None:
    """Is case run/07: 13 of 13 requests to the canary fail, 0 of 26 to production, over 4.5 min."""
    await monitor.second()
    seen = 0
    while not world.aborts:
        seen += 1
        assert seen <= 13
        await monitor.second(canary=(1, 1), stable=(2, 0))
        for _ in range(19):
            world.time += timedelta(seconds=0.5)
            await monitor.evaluator.step()
            await monitor.aborts.step()
    [reason] = reasons(world)
    assert reason.startswith(f"analysis: errors: {seen} of {seen} requests to the canary failed")


async def test_an_outage_of_both_blames_nobody(monitor: Monitor, world: World) -> None:
    for _ in range(5):
        await monitor.second(canary=(10, 0), stable=(20, 0))
    for _ in range(20):
        await monitor.second(canary=(10, 10), stable=(20, 20))
    assert world.aborts == []


async def test_a_canary_that_answers_only_errors_is_aborted_though_production_has_no_requests(
    monitor: Monitor, world: World
) -> None:
    world.weight = 100
    for _ in range(30):
        await monitor.second(canary=(5, 5))
    assert len(world.aborts) == 1


async def test_a_proxy_that_gives_no_figures_aborts_nothing(monitor: Monitor, world: World) -> None:
    world.judged = False
    for _ in range(20):
        await monitor.second(canary=(30, 30), stable=(60, 0))
    assert world.aborts == []
    world.judged = True
    await monitor.until_aborted()


async def test_a_rule_that_a_person_switched_off_aborts_nothing(monitor: Monitor, world: World) -> None:
    await monitor.alerts.put_rule(DEFAULTS["analysis"].model_copy(update={"enabled": False}))
    for _ in range(10):
        await monitor.second(canary=(30, 30), stable=(60, 0))
    assert world.aborts == []


@pytest.mark.parametrize("name", ["errors", "strict-errors"])
async def test_flaggers_thresholds_are_a_rule_of_ones_own(monitor: Monitor, world: World, name: str) -> None:
    """The rule of before is one, too, which a person may have stored under its old name."""
    await monitor.alerts.put_rule(Rule(name=name, metric=Metric.ERROR_SHARE, threshold=0.01, aborts=True))
    await monitor.second()
    await monitor.second(canary=(30, 20), stable=(60, 0))
    assert reasons(world) == [f"{name}: failed 20 of 30 requests in 1 s; stable 0 of 60"]


# --- readings of instances -------------------------------------------------------------------------------------------


async def used(monitor: Monitor, world: World, canary: dict[str, Any], stable: dict[str, Any]) -> None:
    """Lets 3 s pass in which the instances have these counters."""
    world.usage = {CANARY: canary, STABLE: stable}
    for _ in range(3):
        await monitor.second()


@pytest.mark.parametrize(
    ("rule", "ill"),
    [
        ("restarts", {"restarts": 3}),
        ("MemoryAtCap", {"working_set": 360, "memory_limit": 400}),
        ("memory", {"working_set": 95}),
        ("cpu", {"cpu_seconds": 300.0}),
    ],
)
async def test_a_harm_that_production_has_at_the_same_time_blames_nobody(
    monitor: Monitor, world: World, rule: str, ill: dict[str, Any]
) -> None:
    at_once = DEFAULTS[rule].model_copy(update={"for_s": 0, "aborts": True})
    await monitor.alerts.put_rule(at_once)
    await used(monitor, world, {}, {})
    await used(monitor, world, ill, ill)
    assert world.aborts == []
    await used(monitor, world, {}, {})
    await used(monitor, world, ill, {})
    assert [reason.partition(":")[0] for reason in reasons(world)] == [rule]


async def test_restarts_of_production_from_before_the_canary_excuse_none_of_the_canary(
    monitor: Monitor, world: World
) -> None:
    world.instances, world.release, world.state = {}, None, None
    await used(monitor, world, {}, {})
    await used(monitor, world, {}, {"restarts": 4})
    world.instances, world.release, world.state = {CANARY: "ready"}, "notes-r9", "progressing"
    await used(monitor, world, {}, {"restarts": 4})
    await used(monitor, world, {"restarts": 3}, {"restarts": 4})
    assert reasons(world) == ["restarts: restarted 3 times within 10 min"]


async def test_a_kill_at_the_limit_is_compared_with_kills(monitor: Monitor, world: World) -> None:
    """Production is at three quarters of its limit, which is near the bound, but was not killed."""
    full = {"working_set": 300, "memory_limit": 400}
    await used(monitor, world, full, full)
    monitor.samples.restart_history.note_kill("notes-r9", "instance notes-r9-1 was killed", world.time)
    await monitor.second()
    assert reasons(world) == ["MemoryAtCap: instance notes-r9-1 was killed"]


async def test_a_slow_production_excuses_a_slow_canary(monitor: Monitor, world: World) -> None:
    await monitor.alerts.put_rule(Rule(name="slow", metric=Metric.LATENCY_MS, threshold=200, aborts=True))
    world.slow_ms = {"canary": 240, "stable": 240}
    for _ in range(10):
        await monitor.second(canary=(20, 0), stable=(40, 0))
    assert world.aborts == []
    assert monitor.states()["slow:notes-r8"] == AlertState.FIRING, "a rule about production is not touched by this"


async def test_where_no_instance_gives_samples_the_canary_is_not_blamed(monitor: Monitor, world: World) -> None:
    await monitor.second()
    world.sampled = False
    for _ in range(30):
        await monitor.second()
    assert world.aborts == []
    assert monitor.states() == {"samples:notes-r8": AlertState.FIRING}


# --- health ----------------------------------------------------------------------------------------------------------


async def unhealthy(world: World, redis: Redis, name: str, *, failing_s: float) -> None:
    """Lets the deployer say that the instance has missed three probes."""
    production = name == STABLE
    (world.production if production else world.instances)[name] = "unhealthy"
    world.probes[name] = {"failing_since": world.time - timedelta(seconds=failing_s)}
    environment = "production" if production else "canary"
    fields = {"app": "notes", "at": world.time, "id": name, "reason": "3 probes missed", "environment": environment}
    await events.append(redis, Event(type="instance.unhealthy", **fields))


def well(world: World, name: str, *, since_s: float, answered_s: float = 0.2) -> None:
    (world.production if name == STABLE else world.instances)[name] = "ready"
    since, answered = (world.time - timedelta(seconds=each) for each in (since_s, answered_s))
    world.probes[name] = {"well_since": since, "answered_at": answered}


async def hear(monitor: Monitor, redis: Redis) -> None:
    follower = monitor.follower(redis)
    for _ in range(3):  # makes the group, looks for what was taken before, reads
        await follower.step(block_ms=1)
    await monitor.aborts.step()


async def moment(monitor: Monitor, world: World, seconds: float) -> None:
    world.time += timedelta(seconds=seconds)
    await monitor.evaluator.step()
    await monitor.aborts.step()


@pytest.mark.parametrize("first", ["canary", "production"])
async def test_a_machine_that_stalls_blames_nobody(monitor: Monitor, world: World, redis: Redis, first: str) -> None:
    """Is case run/37: both miss three probes; the one hears of it some hundred milliseconds before the other."""
    well(world, STABLE, since_s=600)
    await monitor.second()
    await moment(monitor, world, 3.0)
    world.probes[STABLE] = {"answered_at": world.time - timedelta(seconds=3.2), "failing_since": world.time}
    for name in (CANARY, STABLE) if first == "canary" else (STABLE, CANARY):
        await unhealthy(world, redis, name, failing_s=2.8)
        await hear(monitor, redis)
        await moment(monitor, world, 0.3)
    assert world.aborts == []
    well(world, STABLE, since_s=0.1, answered_s=0.1)  # the stall is over; production answers first
    await moment(monitor, world, 0.3)
    await moment(monitor, world, 0.5)
    well(world, CANARY, since_s=0.1, answered_s=0.1)
    for _ in range(12):
        await moment(monitor, world, 1)
    assert (world.aborts, world.state) == ([], "progressing")


async def test_a_canary_that_is_ill_alone_is_aborted_at_the_event(monitor: Monitor, world: World, redis: Redis) -> None:
    await monitor.second()
    await moment(monitor, world, 3.0)
    well(world, STABLE, since_s=600, answered_s=0.9)
    await unhealthy(world, redis, CANARY, failing_s=2.7)
    await hear(monitor, redis)
    assert reasons(world) == ["health: 3 probes missed"]


async def test_a_canary_that_ends_beside_production_is_not_blamed_and_alone_it_is(
    monitor: Monitor, world: World
) -> None:
    await monitor.second()
    world.instances[CANARY] = world.production[STABLE] = "failed"
    for _ in range(20):
        await moment(monitor, world, 0.5)
    assert world.aborts == []
    world.instances, world.production = {"notes-r9-2": "ready"}, {"notes-r8-2": "ready"}
    for _ in range(10):
        await moment(monitor, world, 1)
    world.instances["notes-r9-2"] = "failed"
    for _ in range(2):
        await moment(monitor, world, 0.5)
    assert reasons(world) == ["health: instance notes-r9-2 is failed"]


async def test_production_without_instances_is_no_excuse(monitor: Monitor, world: World) -> None:
    world.production = {}
    await monitor.second()
    world.instances[CANARY] = "failed"
    await moment(monitor, world, 0.5)
    assert reasons(world) == ["health: instance notes-r9-1 is failed"]
