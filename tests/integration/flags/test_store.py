"""The contract of FlagStore, with its mirrors and events; the Redis user of apps."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from services.flags.app_user_store import RedisAppUser
from services.flags.change import Decide, FlagId, Flags, Precondition, Wanted, flag_ids, tag
from services.flags.change import put as putting
from services.flags.flag import Change, Definition, Flag
from services.flags.slices import SLICE
from services.flags.store import MANY, Delta, FlagStore, StorePosition
from shared.errors import Conflict, NotFound, Unavailable
from shared.models import Environment
from shared.store import connect
from tests.support.events import stored_events
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio

AT = datetime(2026, 1, 1, tzinfo=UTC)
BOTH = tuple(Environment)
PRODUCTION, CANARY = BOTH


@pytest.fixture
def store(redis: Redis) -> FlagStore:
    return FlagStore(redis)


@pytest.fixture
async def other(redis_server: str) -> AsyncIterator[FlagStore]:
    """The store of another copy of the service."""
    client = connect(redis_server)
    yield FlagStore(client)
    await client.aclose()


def switch(variant: str = "on", **changes: Any) -> Definition:
    given = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": variant} | changes
    return Definition.model_validate(given)


def after(key: str, definition: Definition | None, where: tuple[Environment, ...] = BOTH) -> Decide:
    return lambda flags: {FlagId(environment, key): definition for environment in where}


async def put(
    store: FlagStore, key: str, definition: Definition | None, where: tuple[Environment, ...] = BOTH
) -> list[Change]:
    return await store.change([key], after(key, definition, where), actor="ann", at=AT)


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
    assert flag.updated_by == "ann"


async def test_a_change_that_changes_nothing_writes_nothing(store: FlagStore) -> None:
    await put(store, "k", switch())
    before = await store.version()
    assert await put(store, "k", switch()) == []
    assert await store.version() == before
    assert len(await store.history("k", limit=10)) == 2


async def test_a_number_is_not_a_truth_value_though_python_calls_them_equal(store: FlagStore) -> None:
    await put(store, "k", switch())
    await put(store, "k", switch(variants={"on": 1, "off": 0}))
    _, flags = await store.load()
    assert {type(flag.definition.variants["on"]) for flag in flags} == {int}


async def test_a_decision_is_told_the_flags_of_its_keys_everywhere_or_all(store: FlagStore) -> None:
    await put(store, "k", switch("on"), (PRODUCTION,))
    await put(store, "other", switch("off"))
    seen: list[Flags] = []

    def decide(flags: Flags) -> Wanted:
        seen.append(flags)
        return {flag_id: switch("off") for flag_id in flags}

    changes = await store.change(["k", "none"], decide, actor="ann", at=AT)
    assert [(change.environment, change.key) for change in changes] == [(PRODUCTION, "k")]
    await store.change(None, decide, actor="ann", at=AT)
    named = [set(flags) for flags in seen]
    assert named == [{(PRODUCTION, "k")}, {(PRODUCTION, "k"), (PRODUCTION, "other"), (CANARY, "other")}]
    assert seen[0][FlagId(PRODUCTION, "k")].definition == switch("on")


async def test_many_flags_change_at_once_or_none_does(store: FlagStore) -> None:
    await put(store, "a", switch(metadata={"mirror": "first"}))
    await put(store, "b", switch(metadata={"mirror": "second"}))
    before = await store.load()
    both = {**after("c", switch())({}), **after("a", switch(metadata={"mirror": "second"}))({})}
    with pytest.raises(Conflict, match="mirror of flag b"):
        await store.change(None, lambda flags: both, actor="ann", at=AT)
    assert await store.load() == before
    swapped = {
        **after("a", switch(metadata={"mirror": "second"}))({}),
        **after("b", switch(metadata={"mirror": "first"}))({}),
    }
    assert len(await store.change(None, lambda flags: swapped, actor="ann", at=AT)) == 4
    assert await store.version() == before[0] + 1


async def test_a_decision_that_raises_changes_nothing(store: FlagStore) -> None:
    await put(store, "k", switch())
    before = await store.load()

    def refuse(flags: Flags) -> Wanted:
        raise NotFound("no")

    with pytest.raises(NotFound):
        await store.change(["k"], refuse, actor="ann", at=AT)
    assert await store.load() == before


async def test_the_history_is_newest_first_in_pages_and_outlives_the_flag(store: FlagStore) -> None:
    for index, definition in enumerate([switch("on"), switch("off"), None]):
        at = AT + timedelta(seconds=index)
        await store.change(["k"], after("k", definition, (PRODUCTION,)), actor="ann", at=at)
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


async def test_a_change_ends_the_wait_whoever_made_it(store: FlagStore, other: FlagStore) -> None:
    loop = asyncio.get_running_loop()
    for key in ("first", "second"):
        seen = await other.position()
        asked_at = loop.time()
        await other.wait_for_change(seen, 0.1)
        assert loop.time() - asked_at >= 0.09
        waiting = asyncio.create_task(other.wait_for_change(seen, 30))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await put(store, key, switch())
        await asyncio.wait_for(waiting, 10)
        await asyncio.wait_for(other.wait_for_change(seen, 30), 10)  # also if the wait begins after the change


async def keys_since(store: FlagStore, seen: StorePosition) -> list[str] | None:
    delta = await store.since(seen)
    return None if delta is None else [flag_id.key for flag_id in delta.flags]


async def test_what_changed_is_told_flag_by_flag(store: FlagStore, other: FlagStore) -> None:
    empty = await store.position()
    assert await store.since(empty) == Delta(empty, {})
    await put(store, "a", switch(), (PRODUCTION,))
    one = await store.position()
    await put(store, "b", switch(), (PRODUCTION,))
    await put(store, "a", switch("off"), (PRODUCTION,))
    await put(store, "b", None)
    delta = await other.since(one)
    assert delta is not None
    assert delta.position == await store.position() != one
    assert delta.flags[FlagId(PRODUCTION, "b")] is None
    text = delta.flags[FlagId(PRODUCTION, "a")]
    assert text and Flag.model_validate_json(text).definition == switch("off")
    assert await keys_since(other, empty) == ["a", "b"]
    assert await keys_since(other, delta.position) == []


class Interrupted(Redis):
    """A client in whose transactions others write: `write` is called before each but the first."""

    write: Any = None
    transactions = 0

    def pipeline(self, *args: Any, **kwargs: Any) -> Any:
        self.transactions += 1
        if self.write and self.transactions > 1:
            self.write(self.transactions)
        return super().pipeline(*args, **kwargs)


async def test_what_is_written_while_changes_are_read_is_told_whole(redis: Redis, database: Any) -> None:
    texts = {
        each: Flag(key="b", environment=each, definition=switch(), updated_at=AT).model_dump_json() for each in BOTH
    }

    def write(transaction: int) -> None:
        if transaction == 2:
            for each, text in texts.items():
                database.hset(f"flags:flag:{each}", "b", text)
            version = database.incr("flags:version")
            database.xadd("flags:changes", {"version": version, "flags": "production:b canary:b"})

    store = FlagStore(redis)
    seen = await store.position()
    await put(store, "a", switch(), (PRODUCTION,))
    interrupted = Interrupted(connection_pool=redis.connection_pool)
    interrupted.write = write
    delta = await FlagStore(interrupted).since(seen)
    assert delta is not None
    assert delta.position == await store.position()
    assert {flag_id: text for flag_id, text in delta.flags.items() if flag_id.key == "b"} == {
        FlagId(each, "b"): text for each, text in texts.items()
    }


async def test_where_the_store_cannot_tell_what_changed_it_says_so(store: FlagStore, redis: Redis) -> None:
    empty = await store.position()
    await put(store, "a", switch())
    one = await store.position()
    many = {FlagId(PRODUCTION, f"k{number}"): switch() for number in range(MANY + 1)}
    await store.change(None, lambda flags: many, actor="ann", at=AT)
    assert await keys_since(store, one) is None  # many at once
    two = await store.position()
    for number in range(MANY // 2 + 1):
        await put(store, f"k{number}", switch("off"))
    assert await keys_since(store, two) is None  # many, one by one
    three = await store.position()
    await redis.incr("flags:version")  # as a version of the service does that knows nothing of the stream
    assert await keys_since(store, three) is None
    four = await store.position()
    await put(store, "a", switch("off"), (PRODUCTION,))
    assert await keys_since(store, four) == ["a"]
    await redis.delete("flags:changes")
    assert await keys_since(store, four) is None
    await redis.flushdb()
    assert await keys_since(store, four) is None
    assert await keys_since(store, empty) == []


async def test_all_flags_are_read_in_slices(store: FlagStore) -> None:
    many = {FlagId(each, f"k{number}"): switch() for number in range(700) for each in BOTH}
    await store.change(None, lambda flags: many, actor="ann", at=AT)
    slices = [found async for found in store.scan()]
    assert {flag_id for found in slices for flag_id in found} == set(many)
    assert max(map(len, slices)) < 3 * SLICE  # Redis may give somewhat more than it was asked for


async def test_a_write_gives_up_if_others_always_come_first(redis: Redis, database: Any) -> None:
    store = FlagStore(redis, patience_s=0.2)

    def decide(flags: Flags) -> Wanted:
        database.incr("flags:version")
        return {FlagId(PRODUCTION, "k"): switch()}

    with pytest.raises(Unavailable, match=r"nothing was written; try again"):
        await store.change(["k"], decide, actor="ann", at=AT)
    assert (await store.load())[1] == []


async def test_when_flags_were_evaluated_is_kept_until_they_go(store: FlagStore) -> None:
    here, there, every = FlagId(PRODUCTION, "k"), FlagId(CANARY, "k"), FlagId(CANARY, "*")
    asked = [here, FlagId(PRODUCTION, "other"), there, every]
    assert await store.evaluated(asked) == {}
    await put(store, "k", switch())
    later = AT + timedelta(seconds=1.5)
    await store.note_evaluated({here: AT, there: AT, every: AT})
    await store.note_evaluated({here: later})
    assert await store.evaluated(asked) == {here: later, there: AT, every: AT}
    await put(store, "k", None, (PRODUCTION,))
    assert await store.evaluated(asked) == {there: AT, every: AT}


async def test_two_writers_at_once_lose_neither_change(store: FlagStore, redis_server: str) -> None:
    await put(store, "k", switch(metadata={"count": 0}), (PRODUCTION,))
    clients = [connect(redis_server) for _ in range(4)]

    def count(flags: Flags) -> Wanted:
        current = flags[FlagId(PRODUCTION, "k")].definition
        return {
            FlagId(PRODUCTION, "k"): current.model_copy(
                update={"metadata": {"count": int(current.metadata["count"]) + 1}}
            )
        }

    stores = [FlagStore(client) for client in clients]
    await asyncio.gather(*(each.change(["k"], count, actor="a", at=AT) for each in stores for _ in range(5)))
    _, [flag] = await stores[0].load()
    assert flag.definition.metadata == {"count": 20}
    for client in clients:
        await client.aclose()


async def test_mirrors_and_event_come_with_the_change(store: FlagStore, redis: Redis) -> None:
    await put(store, "k", switch("on", metadata={"mirror": "featureFlag"}))
    assert await redis.mget("flag:k", "flag:canary:k", "featureFlag") == ["1", "1", "1"]
    await put(store, "k", switch("off", metadata={"mirror": "featureFlag"}), (PRODUCTION,))
    assert await redis.mget("flag:k", "flag:canary:k", "featureFlag") == ["0", "1", "0"]
    await put(store, "k", None)
    assert await redis.exists("flag:k", "flag:canary:k", "featureFlag") == 0
    events = await stored_events(redis)
    assert [(event.type, event.app, event.id) for event in events] == [("flag.changed", "", "k")] * 5
    assert events[-1].reason == "flag k was deleted in canary by ann"


async def test_a_switch_reads_and_writes_only_its_own_mirror(store: FlagStore, redis: Redis) -> None:
    async def calls() -> dict[str, int]:
        statistics: Any = await redis.info("commandstats")
        return {name: statistics.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("hset", "hdel", "hgetall")}

    many = {FlagId(PRODUCTION, f"k{number}"): switch(metadata={"mirror": f"m{number}"}) for number in range(50)}
    await store.change(None, lambda flags: many, actor="ann", at=AT)
    before = await calls()
    await put(store, "k7", switch("off", metadata={"mirror": "m7"}), (PRODUCTION,))
    after = await calls()
    assert {name: after[name] - before[name] for name in after} == {"hset": 1, "hdel": 0, "hgetall": 0}
    assert await redis.hlen("flags:mirror") == 50


async def test_a_mirror_passes_from_one_flag_to_another_in_one_go(store: FlagStore, redis: Redis) -> None:
    await put(store, "a", switch("on", metadata={"mirror": "first"}))
    await put(store, "b", switch("off", metadata={"mirror": "second"}))
    swapped = {
        **after("a", switch("on", metadata={"mirror": "second"}))({}),
        **after("b", switch("off", metadata={"mirror": "first"}))({}),
    }
    await store.change(None, lambda flags: swapped, actor="ann", at=AT)
    assert await redis.mget("first", "second") == ["0", "1"]
    gone = {**after("a", None)({}), **after("b", switch("off", metadata={"mirror": "second"}))({})}
    await store.change(None, lambda flags: gone, actor="ann", at=AT)
    assert await redis.mget("first", "second", "flag:a") == [None, "0", None]


async def test_of_two_who_read_the_same_one_is_told(store: FlagStore, redis_server: str) -> None:
    await put(store, "k", switch())
    _, flags = await store.load()
    there = {FlagId(flag.environment, flag.key): flag for flag in flags}
    seen = Precondition(if_match=tag(there, flag_ids("k", None)))
    clients = [connect(redis_server) for _ in range(4)]
    writes = [
        FlagStore(client).change(
            ["k"], putting(flag_ids("k", None), switch(metadata={"by": number}), seen), actor="a", at=AT
        )
        for number, client in enumerate(clients)
    ]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert sorted(getattr(result, "status", 200) for result in results) == [200, 412, 412, 412]
    for client in clients:
        await client.aclose()


async def test_a_store_that_is_out_of_reach_raises() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    store = FlagStore(client)
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


async def test_an_app_reads_mirrors_and_nothing_else(
    store: FlagStore, redis: Redis, app_client: Redis, redis_server: str
) -> None:
    await put(store, "k", switch(metadata={"mirror": "featureFlag"}))
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


async def test_a_named_mirror_is_readable_from_the_next_look_on(
    store: FlagStore, redis: Redis, app_client: Redis
) -> None:
    user = RedisAppUser(redis, "secret")
    await put(store, "k", switch(metadata={"mirror": "featureFlag"}))
    with pytest.raises(NoPermissionError):
        await app_client.get("featureFlag")
    await user.ensure()
    assert await app_client.get("featureFlag") == "1"  # on the connection that it had
    await put(store, "k", switch())
    await user.ensure()
    with pytest.raises(NoPermissionError):
        await app_client.get("featureFlag")


async def test_the_rights_are_given_anew_only_if_mirrors_changed_or_the_user_is_gone(
    store: FlagStore, redis: Redis
) -> None:
    async def given() -> int:
        statistics: Any = await redis.info("commandstats")
        return int(statistics.get("cmdstat_acl|setuser", {}).get("calls", 0))

    user = RedisAppUser(redis, "secret")
    before = await given()
    for _ in range(3):
        await user.keep()
    assert await given() == before + 1
    user.mirrors_changed()
    await user.keep()
    await redis.acl_deluser("app")
    await user.keep()
    await user.keep()
    assert await given() == before + 3
    assert await redis.acl_getuser("app")
    await redis.acl_deluser("app")
