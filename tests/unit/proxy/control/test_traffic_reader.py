"""Those who ask for traffic at the same time share readings of Envoy, whatever their number."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.proxy.control.envoy_loops import TrafficReader
from services.proxy.counting.log_reader import SLICE
from shared.errors import Unavailable
from shared.models import Track
from tests.support.proxy.access_lines import line
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import endpoint, route

pytestmark = pytest.mark.anyio

APPS = [f"app{number}" for number in range(100)]
LINE = {"route": "app0/stable", "cluster": "app0/stable", "release": "app0-r1"}


@pytest.fixture
def plane(tmp_path: Path, redis: Redis) -> Plane:
    return Plane(tmp_path, redis, *(route(endpoint(f"{app}-r1-1"), app=app) for app in APPS))


async def test_a_hundred_askers_cost_at_most_two_readings(plane: Plane) -> None:
    views = await asyncio.gather(*(plane.reader.view(app) for app in APPS))

    assert len(views) == 100
    assert plane.asked["/stats"] <= 2


async def test_the_traffic_of_all_apps_is_one_reading(plane: Plane) -> None:
    assert sorted(await plane.reader.views()) == sorted(APPS)
    assert plane.asked["/stats"] == 1


async def test_the_proxy_reads_by_itself_only_if_the_monitor_does_not_ask(plane: Plane) -> None:
    clock = [0.0]
    reader = TrafficReader(plane.control, plane.counts, plane.access_log, lambda connections: None, lambda: clock[0])
    await reader.views()
    clock[0] += 2
    await reader.keep_current()
    assert plane.asked["/stats"] == 1

    clock[0] += 0.5
    await reader.keep_current()
    assert plane.asked["/stats"] == 2


async def test_a_restart_of_envoy_keeps_the_figures_and_the_epoch(plane: Plane) -> None:
    plane.log(line(LINE))
    before = await plane.reader.view("app0")
    plane.envoy_is_away = True
    with pytest.raises(Unavailable):
        await plane.reader.view("app0")

    plane.envoy_is_away = False
    plane.log(line(LINE))
    after = await plane.reader.view("app0")
    assert (after.epoch, before.tracks[Track.STABLE].requests, after.tracks[Track.STABLE].requests) == ("epoch", 1, 2)


async def test_a_restart_of_the_proxy_begins_at_the_end_of_the_log(plane: Plane) -> None:
    plane.log(line(LINE))
    plane.start()
    plane.log(line(LINE))
    assert (await plane.reader.view("app0")).tracks[Track.STABLE].requests == 1


async def test_a_log_with_very_many_lines_is_sampled(plane: Plane) -> None:
    clock = [0.0]
    reader = TrafficReader(plane.control, plane.counts, plane.access_log, lambda connections: None, lambda: clock[0])
    await reader.step()
    clock[0] += 0.01
    plane.log(*(line(LINE, request_id=f"{number:04x}") for number in range(9600)))
    requests = (await reader.view("app0")).tracks[Track.STABLE].requests
    assert plane.counts.view(plane.control.route("app0")).tracks[Track.STABLE].requests == requests == 9600


async def test_a_long_log_lets_other_tasks_run(plane: Plane) -> None:
    plane.log(*[line(LINE)] * 4000)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(turn())
    await asyncio.sleep(0)
    await plane.reader._count()
    other.cancel()
    assert turns >= 4000 * len(line(LINE)) // SLICE


async def test_who_asks_after_a_reading_gets_a_new_one(plane: Plane) -> None:
    await plane.reader.view("app0")
    await plane.reader.view("app0")

    assert plane.asked["/stats"] == 2


async def test_an_asker_that_has_gone_is_not_answered_for(plane: Plane) -> None:
    running = asyncio.create_task(plane.reader.step())
    await asyncio.sleep(0)
    gone = [asyncio.create_task(plane.reader.view(app)) for app in APPS]
    await asyncio.sleep(0)
    for each in gone:
        each.cancel()
    await asyncio.gather(running, *gone, return_exceptions=True)

    assert plane.asked["/stats"] == 1


async def test_a_reading_that_was_cut_off_is_made_by_the_next_asker(plane: Plane) -> None:
    cut_off = asyncio.create_task(plane.reader.step())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(plane.reader.view("app0"))
    await asyncio.sleep(0)
    cut_off.cancel()

    assert (await waiting).epoch == "epoch"
    assert plane.asked["/stats"] == 2  # one that was cut off, and one that was not


async def test_all_askers_learn_that_envoy_does_not_answer(plane: Plane) -> None:
    plane.envoy_is_away = True

    outcomes = await asyncio.gather(*(plane.reader.view(app) for app in APPS), return_exceptions=True)

    assert {type(each) for each in outcomes} == {Unavailable}
    assert plane.asked["/stats"] <= 2
