"""A change reads only the flags that it changed, missed changes are made up for, and no work blocks the event loop for
long.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from services.flags.cache import FlagCache
from services.flags.change import Decide, FlagId
from services.flags.evaluation import FlagEvaluator
from services.flags.flag import Definition
from services.flags.slices import SLICE
from services.flags.store import MANY, Delta, FlagStore, StorePosition
from shared.clock import now
from shared.models import Environment

pytestmark = pytest.mark.anyio

AT = datetime(2026, 1, 1, tzinfo=UTC)
PRODUCTION, CANARY = Environment
COUNT = 1000


class CountingStore(FlagStore):
    """A store that counts the flags that are read, and how often all of them are."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.read = 0
        self.scans = 0
        self.missed: Any = None

    async def since(self, seen: StorePosition) -> Delta | None:
        delta = await super().since(seen)
        self.read += len(delta.flags) if delta else 0
        return delta

    async def scan(self) -> AsyncIterator[Mapping[FlagId, str]]:
        self.scans += 1
        async for found in super().scan():
            self.read += len(found)
            yield found


def switch(variant: str = "on", **changes: Any) -> Definition:
    given = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": variant} | changes
    return Definition.model_validate(given)


def to(definition: Definition | None, *keys: str) -> Decide:
    return lambda flags: {FlagId(PRODUCTION, key): definition for key in keys}


async def write(store: FlagStore, definition: Definition | None, *keys: str) -> None:
    await store.change(keys, to(definition, *keys), actor="ann", at=AT)


def evaluators(cache: FlagCache) -> dict[str, FlagEvaluator]:
    return {each.flag.key: each for each in cache.flags(PRODUCTION).by_key()}


@pytest.fixture
async def store(redis: Redis) -> CountingStore:
    """A store of a thousand flags."""
    store = CountingStore(redis)
    await write(store, switch(), *(f"k{number}" for number in range(COUNT)))
    return store


@pytest.fixture
async def cache(store: CountingStore) -> FlagCache:
    """A cache that has read all flags; the store counts from here on."""
    cache = FlagCache(store, now)
    await cache.refresh()
    store.read = store.scans = 0
    return cache


async def test_a_switch_reads_and_parses_one_flag_whoever_made_it(
    store: CountingStore, cache: FlagCache, redis: Redis
) -> None:
    before = evaluators(cache)
    await write(FlagStore(redis), switch("off"), "k7")
    await cache.refresh()
    await cache.change(["k8"], to(switch("off"), "k8"), actor="ann", at=AT)
    await cache.change(["k9"], to(None, "k9"), actor="ann", at=AT)
    await cache.refresh()
    assert (store.read, store.scans) == (3, 0)
    after = evaluators(cache)
    assert {key for key in before if after.get(key) is not before[key]} == {"k7", "k8", "k9"}
    assert cache.evaluate(PRODUCTION, "k7", {}).value is False


async def test_every_copy_has_the_same_digest_by_changes_as_by_reading_all(cache: FlagCache, redis: Redis) -> None:
    store = FlagStore(redis)
    digests = {cache.snapshot(PRODUCTION).digest}
    for definition in (switch("off"), None, switch("off"), switch()):
        await write(store, definition, "k7")
        await cache.refresh()
        fresh = FlagCache(FlagStore(redis), now)
        await fresh.refresh()
        assert cache.snapshot(PRODUCTION).digest == fresh.snapshot(PRODUCTION).digest
        digests.add(cache.snapshot(PRODUCTION).digest)
    assert len(digests) == 3  # as at first, off, gone


async def test_what_was_missed_is_caught_up_with(store: CountingStore, cache: FlagCache, redis: Redis) -> None:
    for number in range(20):
        await write(FlagStore(redis), switch("off"), f"k{number}")
    await write(FlagStore(redis), switch("off", metadata={"again": True}), "k0")
    await cache.refresh()
    assert (store.read, store.scans) == (20, 0)
    assert {key for key, each in evaluators(cache).items() if each.flag.definition != switch()} == {
        f"k{number}" for number in range(20)
    }


async def test_an_import_of_many_is_read_once_and_only_what_differs_is_parsed(
    store: CountingStore, cache: FlagCache, redis: Redis
) -> None:
    before = evaluators(cache)
    many = [f"k{number}" for number in range(MANY + 1)]
    await write(FlagStore(redis), switch("off"), *many)
    await cache.refresh()
    assert (store.scans, store.read) == (1, COUNT)
    after = evaluators(cache)
    assert {key for key in before if after[key] is not before[key]} == set(many)


async def test_readers_see_all_of_a_write_or_nothing_of_it(cache: FlagCache, redis: Redis) -> None:
    for count in (MANY, MANY + 1):  # by its changes, by reading all
        for variant in ("off", "on"):
            keys = [f"k{number}" for number in range(count)]
            await write(FlagStore(redis), switch(variant), *keys)
            refreshing = asyncio.create_task(cache.refresh())
            seen = set()
            while not refreshing.done():
                seen.add(len({cache.evaluate(PRODUCTION, key, {}).value for key in keys}))
                await asyncio.sleep(0)
            assert seen == {1}
            assert cache.evaluate(PRODUCTION, "k0", {}).variant == variant


@pytest.mark.parametrize("loss", ["all", "changes", "version", "an older state"])
async def test_after_a_loss_of_data_the_flags_are_those_of_the_store(cache: FlagCache, redis: Any, loss: str) -> None:
    store = FlagStore(redis)
    hash_before, version = await redis.hgetall("flags:flag:production"), await redis.get("flags:version")
    await write(store, switch("off"), "k7")
    await cache.refresh()
    if loss == "all":
        await redis.flushdb()
    elif loss == "an older state":
        await redis.hset("flags:flag:production", mapping=hash_before)
        await redis.set("flags:version", version)
        [(newest, _)] = await redis.xrevrange("flags:changes", count=1)
        await redis.xdel("flags:changes", newest)
        await write(store, switch("off"), "k8")  # the version is as high as before
    else:
        await redis.delete(f"flags:{loss}")
    await cache.refresh()
    fresh = FlagCache(store, now)
    await fresh.refresh()
    assert len(evaluators(cache)) == (0 if loss == "all" else COUNT)
    assert cache.snapshot(PRODUCTION).digest == fresh.snapshot(PRODUCTION).digest
    await write(store, switch(metadata={"after": loss}), "k7")
    await cache.refresh()
    assert evaluators(cache)["k7"].flag.definition.metadata == {"after": loss}


async def test_what_changes_while_all_flags_are_read_is_read_too(redis: Redis) -> None:
    class BusyStore(CountingStore):
        """A store to which others write while all flags are read: so much, the first time, that it must start again."""

        async def scan(self) -> AsyncIterator[Mapping[FlagId, str]]:
            async for found in super().scan():
                if self.scans == 1:
                    await write(FlagStore(redis), switch("off"), *(f"k{number}" for number in range(MANY + 1)))
                yield found
            await write(FlagStore(redis), switch("off", metadata={"scan": self.scans}), "k999")
            await write(FlagStore(redis), None, "k998")

    store = BusyStore(redis)
    await write(store, switch(), *(f"k{number}" for number in range(COUNT)))
    cache = FlagCache(store, now)
    await cache.refresh()
    assert store.scans == 2
    _, stored = await store.load()
    assert {key: each.flag for key, each in evaluators(cache).items()} == {flag.key: flag for flag in stored}


async def test_a_writer_that_says_nothing_keeps_no_flag_from_being_served(redis: Redis) -> None:
    class OldCopyStore(CountingStore):
        """A store beside which an old version of the service writes all the time."""

        async def scan(self) -> AsyncIterator[Mapping[FlagId, str]]:
            async for found in super().scan():
                yield found
            await redis.incr("flags:version")

    store = OldCopyStore(redis)
    await write(store, switch(), "k")
    cache = FlagCache(store, now)
    await cache.refresh()
    assert cache.evaluate(PRODUCTION, "k", {}).value is True
    await redis.hdel("flags:flag:production", "k")
    await cache.refresh()
    assert evaluators(cache) == {}


async def test_other_tasks_run_between_slices_while_all_flags_are_read(
    store: CountingStore, cache: FlagCache, redis: Redis
) -> None:
    """A task that runs whenever it may counts how many flags were read since it ran last."""
    await write(FlagStore(redis), switch("off"), *(f"k{number}" for number in range(COUNT)))
    most = last = 0
    refreshing = asyncio.create_task(cache.refresh())
    while not refreshing.done():
        await asyncio.sleep(0)
        most, last = max(most, store.read - last), store.read
    await refreshing
    assert store.read == COUNT
    assert 0 < most < 3 * SLICE  # Redis may give somewhat more at once than it was asked for
