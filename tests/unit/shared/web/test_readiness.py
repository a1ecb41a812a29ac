"""`/ready` of every service says what Redis answers instead of doing what is asked, and its last words."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.clock import now
from shared.config import SharedSettings
from shared.models import ServiceRecord
from shared.registry import Registry
from shared.store import RedisError
from shared.web.readiness import RedisWatch, found, of_every_service
from tests.support.monitor.notification_stack import DurableRedis, durable_redis

pytestmark = pytest.mark.anyio

RECORD = ServiceRecord(name="build", id="a", url="http://127.0.0.1:1", version="1", started_at=now())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DurableRedis]:
    with durable_redis(tmp_path / "redis") as server:
        yield server


def settings_in(home: Path, **more: object) -> SharedSettings:
    return SharedSettings.model_validate({"home": home, "token": "t", "redis_url": "redis://127.0.0.1:1/0", **more})


async def test_a_redis_that_ended_is_told_with_its_last_words(server: DurableRedis, tmp_path: Path) -> None:
    watch = RedisWatch(Registry(server.client), settings_in(tmp_path))
    await watch.announce(RECORD)
    assert await watch.problem() is None
    server.kill()
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "redis.log"
    log.write_text("9:M 29 Nov 2026 19:38:21.216 # Can't recover from AOF write error. Exiting...\n")
    begun = time.monotonic()
    problem = await watch.problem()
    assert time.monotonic() - begun < 2
    assert problem is not None
    assert problem.startswith("Redis does not answer (")
    assert problem.endswith(
        f"; its last words: Can't recover from AOF write error. Exiting... (29 Nov 2026 19:38:21); {log} says more"
    )
    server.start()
    assert await watch.problem() is None
    await server.client.aclose()


async def test_a_redis_that_refuses_writes_is_told_with_its_answer(server: DurableRedis, tmp_path: Path) -> None:
    watch = RedisWatch(Registry(server.client), settings_in(tmp_path))
    await watch.announce(RECORD)
    await server.client.config_set("min-replicas-to-write", "1")
    with pytest.raises(RedisError):
        await watch.announce(RECORD)
    problem = await watch.problem()
    assert problem is not None
    assert problem.startswith("Redis refuses what the platform asks of it: NOREPLICAS Not enough good replicas")
    assert "docker compose logs redis" in problem
    await server.client.config_set("min-replicas-to-write", "0")
    await watch.announce(RECORD)
    assert await watch.problem() is None
    await server.client.aclose()


async def test_a_redis_that_cannot_save_is_told_although_nothing_was_written(
    server: DurableRedis, tmp_path: Path
) -> None:
    watch = RedisWatch(Registry(server.client), settings_in(tmp_path))
    await server.client.set("some", "data")
    await server.client.config_set("save", "3600 1")
    shutil.rmtree(tmp_path / "redis")
    await server.client.bgsave()
    deadline = time.monotonic() + 5
    while (problem := await watch.problem()) is None:
        assert time.monotonic() < deadline
    assert "MISCONF" in problem
    await server.client.aclose()


async def test_a_full_disk_makes_a_service_unready_and_a_low_one_warns(tmp_path: Path, server: DurableRedis) -> None:
    huge = 10**9  # MiB
    redis = RedisWatch(Registry(server.client), settings_in(tmp_path))
    checks, warnings = of_every_service(settings_in(tmp_path, disk_full_mb=huge), redis)
    assert list(await found(checks)) == ["disk"]
    checks, warnings = of_every_service(settings_in(tmp_path, disk_low_mb=huge, disk_low_percent=100), redis)
    assert (await found(checks), list(await found(warnings))) == ({}, ["disk low"])
    await server.client.aclose()


async def test_a_check_that_fails_itself_is_a_problem() -> None:
    async def broken() -> str | None:
        raise RuntimeError("no such thing")

    async def well() -> str | None:
        return None

    assert await found({"a": broken, "b": well}) == {"a": "RuntimeError: no such thing"}
