"""The contract of FlagStore, run against both; then what only Redis has: mirrors, events, the user of apps."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from services.flags.flag import Change, Definition
from services.flags.store import Decide, FlagStore, MemoryFlagStore, RedisAppUser, RedisFlagStore
from shared.errors import Conflict, NotFound
from shared.events import STREAM
from shared.models import Environment, Event
from shared.store import connect
from tests.conftest import free_port

pytestmark = pytest.mark.anyio

AT = datetime(2026, 1, 1, tzinfo=UTC)
BOTH = tuple(Environment)
PRODUCTION, CANARY = BOTH


@pytest.fixture(params=["redis", "memory"])
async def store(request: pytest.FixtureRequest, redis: Redis) -> FlagStore:
    return RedisFlagStore(redis) if request.param == "redis" else MemoryFlagStore()


def switch(variant: str = "on", **changes: Any) -> Definition:
    given = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": variant} | changes
    return Definition.model_validate(given)


async def put(
    store: FlagStore, key: str, definition: Definition | None, where: tuple[Environment, ...] = BOTH
) -> list[Change]:
    return await store.change(key, where, lambda current: definition, actor="ann", at=AT)


async def test_a_new_store_is_empty(store: FlagStore) -> None:
    assert await store.version() == 0
    assert await store.load() == (0, [])
    assert await store.history("k", limit=10) == []


async def test_what_is_put_is_loaded_with_a_higher_version(store: FlagStore) -> None:
    changes = await put(store, "k", switch("off"), (CANARY,))
    [change] = changes
    assert (change.before, change.after, change.environment) == (None, switch("off"), CANARY)
    version, [flag] = await store.load()
    assert version == await store.version() > 0
    assert (flag.key, flag.environment, flag.definition, flag.updated_at) == ("k", CANARY, switch("off"), AT)


async def test_a_change_that_changes_nothing_writes_nothing(store: FlagStore) -> None:
    await put(store, "k", switch())
    before = await store.version()
    assert await put(store, "k", switch()) == []
    assert await store.version() == before
    assert len(await store.history("k", limit=10)) == 2


async def test_a_change_goes_by_what_is_stored_in_each_environment(store: FlagStore) -> None:
    await put(store, "k", switch("on"), (PRODUCTION,))
    seen: list[Definition | None] = []

    def decide(current: Definition | None) -> Definition | None:
        seen.append(current)
        return current and switch("off")

    changes = await store.change("k", BOTH, decide, actor="ann", at=AT)
    assert seen == [switch("on"), None]
    assert [change.environment for change in changes] == [PRODUCTION]


async def test_a_decision_that_raises_changes_nothing(store: FlagStore) -> None:
    await put(store, "k", switch())
    before = await store.load()

    def refuse(current: Definition | None) -> Definition | None:
        raise NotFound("no")

    with pytest.raises(NotFound):
        await store.change("k", BOTH, refuse, actor="ann", at=AT)
    assert await store.load() == before


async def test_the_history_is_newest_first_in_pages_and_outlives_the_flag(store: FlagStore) -> None:
    for index, definition in enumerate([switch("on"), switch("off"), None]):
        at = AT + timedelta(seconds=index)
        decide: Decide = lambda current, new=definition: new  # type: ignore[misc]  # noqa: E731
        await store.change("k", (PRODUCTION,), decide, actor="ann", at=at)
    await put(store, "other", switch())
    first = await store.history("k", limit=2)
    assert [change.after for _, change in first] == [None, switch("off")]
    assert [change.before for _, change in first] == [switch("off"), switch("on")]
    [(_, oldest)] = await store.history("k", limit=2, before=first[-1][0])
    assert (oldest.before, oldest.after, oldest.actor, oldest.at) == (None, switch("on"), "ann", AT)
    assert {flag.key for flag in (await store.load())[1]} == {"other"}


async def test_a_mirror_belongs_to_one_flag(store: FlagStore) -> None:
    named = switch(metadata={"mirror": "featureFlag"})
    await put(store, "first", named)
    with pytest.raises(Conflict, match="is the mirror of flag first"):
        await put(store, "second", named)
    assert {flag.key for flag in (await store.load())[1]} == {"first"}
    await put(store, "second", named, (CANARY,))  # only production is mirrored to it
    await put(store, "first", named.model_copy(update={"default_variant": "off"}))
    await put(store, "first", None)
    assert await put(store, "second", named, (PRODUCTION,))


# --- Redis ----------------------------------------------------------------------------------------------------------


async def test_two_writers_at_once_lose_neither_change(redis: Redis, redis_server: str) -> None:
    await put(RedisFlagStore(redis), "k", switch(metadata={"count": 0}), (PRODUCTION,))
    clients = [connect(redis_server) for _ in range(4)]

    def count(current: Definition | None) -> Definition | None:
        assert current
        return current.model_copy(update={"metadata": {"count": int(current.metadata["count"]) + 1}})

    stores = [RedisFlagStore(client) for client in clients]
    await asyncio.gather(
        *(each.change("k", (PRODUCTION,), count, actor="a", at=AT) for each in stores for _ in range(5))
    )
    _, [flag] = await stores[0].load()
    assert flag.definition.metadata == {"count": 20}
    for client in clients:
        await client.aclose()


async def test_mirrors_and_event_come_with_the_change(redis: Redis) -> None:
    store = RedisFlagStore(redis)
    await put(store, "k", switch("on", metadata={"mirror": "featureFlag"}))
    assert await redis.mget("flag:k", "flag:canary:k", "featureFlag") == ["1", "1", "1"]
    await put(store, "k", switch("off", metadata={"mirror": "featureFlag"}), (PRODUCTION,))
    assert await redis.mget("flag:k", "flag:canary:k", "featureFlag") == ["0", "1", "0"]
    await put(store, "k", None)
    assert await redis.exists("flag:k", "flag:canary:k", "featureFlag") == 0
    entries: Any = await redis.xrange(STREAM)
    told = [Event.model_validate_json(fields["event"]) for _, fields in entries]
    assert [(event.type, event.app, event.id) for event in told] == [("flag.changed", "", "k")] * 5
    assert told[-1].reason == "flag k was deleted in canary by ann"


async def test_a_store_that_is_out_of_reach_raises() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    store = RedisFlagStore(client)
    with pytest.raises(RedisError):
        await store.load()
    with pytest.raises(RedisError):
        await put(store, "k", switch())
    await client.aclose()


@pytest.fixture
async def app_client(redis: Redis, redis_server: str) -> AsyncIterator[Redis]:
    await RedisAppUser(redis, "secret").ensure()
    client = connect(f"redis://app:secret@127.0.0.1:{urlsplit(redis_server).port}/0")
    yield client
    await client.aclose()
    await redis.acl_deluser("app")


async def test_an_app_reads_mirrors_and_nothing_else(redis: Redis, app_client: Redis, redis_server: str) -> None:
    await put(RedisFlagStore(redis), "k", switch(metadata={"mirror": "featureFlag"}))
    await redis.set("featureFlag2", "secret")
    assert await app_client.mget("flag:k", "flag:canary:k") == ["1", "1"]
    forbidden: list[tuple[str, ...]] = [
        ("GET", "featureFlag2"),
        ("GET", "flags:version"),
        ("HGETALL", "flags:flag:production"),
        ("HGETALL", "registry:instance:notes:stable"),
        ("XRANGE", "events", "-", "+"),
        ("SET", "flag:k", "0"),
        ("DEL", "flag:k"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("ACL", "LIST"),
        ("CONFIG", "GET", "requirepass"),
        ("CLIENT", "LIST"),
        ("EVAL", "return 1", "0"),
        ("SUBSCRIBE", "x"),
        ("FLUSHALL",),
    ]
    for command in forbidden:
        with pytest.raises(NoPermissionError):
            await app_client.execute_command(*command)  # type: ignore[no-untyped-call]
    wrong = connect(f"redis://app:wrong@127.0.0.1:{urlsplit(redis_server).port}/0")
    with pytest.raises(AuthenticationError):
        await wrong.ping()
    await wrong.aclose()


async def test_a_named_mirror_is_readable_from_the_next_look_on(redis: Redis, app_client: Redis) -> None:
    store, user = RedisFlagStore(redis), RedisAppUser(redis, "secret")
    await put(store, "k", switch(metadata={"mirror": "featureFlag"}))
    with pytest.raises(NoPermissionError):
        await app_client.get("featureFlag")
    await user.ensure()
    assert await app_client.get("featureFlag") == "1"  # on the connection that it had
    await put(store, "k", switch())
    await user.ensure()
    with pytest.raises(NoPermissionError):
        await app_client.get("featureFlag")
