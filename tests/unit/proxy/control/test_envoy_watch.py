"""Envoy is asked which files it runs when one was written, not again and again."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.proxy.control.envoy_loops import CHECKED_S, EnvoyWatch
from shared.errors import Unavailable
from tests.support.ports import free_port, listener
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import route

pytestmark = pytest.mark.anyio


@pytest.fixture
def plane(tmp_path: Path, redis: Redis) -> Plane:
    return Plane(tmp_path, redis, route(app="notes"))


async def test_after_envoy_has_accepted_all_it_is_asked_again_when_a_file_is_written(plane: Plane) -> None:
    watch = EnvoyWatch(plane.control)
    for _ in range(3):
        await watch.step()
    assert plane.asked["/stats"] == 1

    plane.control.put(plane.control.route("notes").model_copy(update={"hosts": ["notes.localhost", "n.localhost"]}))
    for _ in range(3):
        await watch.step()
    assert plane.asked["/stats"] == 2


async def test_an_envoy_that_does_not_answer_is_said_with_who_has_its_port(plane: Plane) -> None:
    with listener(port := free_port()) as pid:
        watch = EnvoyWatch(plane.control, ports={"SLIPWAY_PUBLIC_PORT": port})
        assert await watch.check() is None
        plane.envoy_is_away = True
        problem = await watch.check()
    assert problem is not None
    assert f"(process {pid}) has its port {port}: end that, or set SLIPWAY_PUBLIC_PORT" in problem


async def test_it_is_asked_again_after_a_while(plane: Plane) -> None:
    clock = [0.0]
    watch = EnvoyWatch(plane.control, lambda: clock[0])
    await watch.step()
    clock[0] = CHECKED_S
    plane.envoy_is_away = True
    for _ in range(2):  # an error is no answer
        with pytest.raises(Unavailable):
            await watch.step()
