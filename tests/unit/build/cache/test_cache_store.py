import pytest
from redis.asyncio import Redis

from services.build.cache.cache_key import KEPT, CacheEntry
from services.build.cache.cache_store import CacheStore
from services.build.gates.baseline import Baseline

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(redis: Redis) -> CacheStore:
    return CacheStore(redis)


def entry(number: int) -> CacheEntry:
    return CacheEntry(build=f"notes-{number}", baseline=Baseline(build=f"notes-{number}", commit="a" * 40))


async def test_what_was_put_is_found_until_it_is_dropped(store: CacheStore) -> None:
    await store.put("notes", "key", entry(1))
    await store.put("notes", "key", entry(2))
    assert await store.get("notes", "key") == entry(2)
    assert await store.get("notes", "other") is None
    assert await store.get("another", "key") is None
    for _ in range(2):
        await store.drop("notes", "key")
    assert await store.get("notes", "key") is None


async def test_the_newest_are_kept(store: CacheStore) -> None:
    for number in range(KEPT + 1):
        await store.put("notes", f"key-{number}", entry(number))
        await store.put("notes", "key-0", entry(0))  # again: it is the newest
    await store.put("notes", "last", entry(9))
    found = [number for number in range(KEPT + 1) if await store.get("notes", f"key-{number}")]
    assert found == [0, *range(3, KEPT + 1)]


async def test_a_deleted_app_is_forgotten(store: CacheStore, redis: Redis) -> None:
    for app in ("notes", "other"):
        await store.put(app, "key", entry(1))
    await store.forget("notes")
    assert await store.get("notes", "key") is None
    assert await store.get("other", "key") == entry(1)
    assert not [key async for key in redis.scan_iter("*:notes")]
