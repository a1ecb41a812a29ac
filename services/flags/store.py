"""Stores flags in Redis, with their history and the plain Redis keys that hold their values."""

import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from services.flags.change import Decide, FlagId, changes_of, flag_after, mirrors_after
from services.flags.flag import Change, Flag, mirrored
from services.flags.slices import SLICE, sliced
from shared import events
from shared.errors import Unavailable
from shared.models import Environment, Event

VERSION = "flags:version"
CHANGES = "flags:changes"  # stream: the flags that each version changed, unless there are too many
MIRRORS = "flags:mirror"  # hash: mirror's Redis key → key of the flag that owns it
HISTORY_KEPT = 1000
VERSIONS_KEPT = 1000  # entries in the stream of changes
MANY = 200  # flags; for more, reading all flags in slices is better than reading these in one call
PATIENCE_S = 30.0  # time in which a write is retried while other writers come first


class StorePosition(NamedTuple):
    """Identifies a state of all flags in the store: their version (a number that each write increments), and the id of
    the newest entry in the stream of changes (empty if there is none).
    """

    version: int
    entry: str


class Delta(NamedTuple):
    """Holds the flags that have changed after an earlier position in the store, up to `position`: id → the flag's JSON
    at `position`; None for a deleted flag.
    """

    position: StorePosition
    flags: Mapping[FlagId, str | None]


class FlagStore:
    """Stores flags. Several instances of the service may write at once; each write is atomic. Methods raise RedisError
    when Redis does not answer. Keys:

    `flags:flag:<environment>`: hash of flag key → Flag.
    `flags:evaluated:<environment>`: hash of flag key → time.
    `flags:history:<key>`: stream of Change, about the last 1000.
    `flags:version`: number that each write increments.
    `flags:changes`: stream of the flags that each version changed.
    `flags:mirror`: hash of the extra Redis key in a flag's metadata → the flag's key.
    """

    def __init__(self, redis: Redis, patience_s: float = PATIENCE_S) -> None:
        self._redis = redis
        self._patience_s = patience_s

    async def version(self) -> int:
        """Returns the version of the flags, a number that increases with every change."""
        return int(await self._redis.get(VERSION) or 0)

    async def position(self) -> StorePosition:
        """Returns the present position of the store, after which `since` later returns the changes."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(VERSION)
            pipe.xrevrange(CHANGES, count=1)
            version, newest = await pipe.execute()
        return StorePosition(int(version or 0), newest[0][0] if newest else "")

    async def since(self, seen: StorePosition) -> Delta | None:
        """Returns the changes after `seen`, as one consistent state. Returns None if they are unknown, so that all
        flags must be read by `scan`: because more than 200 flags changed, because Redis lost data, or because another
        program wrote the flags.
        """
        read: Sequence[FlagId] = ()
        while True:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.get(VERSION)
                pipe.xrange(CHANGES, min=seen.entry or "-", count=MANY + 1)
                for flag_id in read:
                    pipe.hget(_flags(flag_id.environment), flag_id.key)
                version, entries, *texts = await pipe.execute()
            changed = _changed(seen, int(version or 0), entries)
            if changed is None or len(changed) > MANY:
                return None
            if changed <= set(read):
                position = StorePosition(int(version or 0), entries[-1][0] if entries else seen.entry)
                return Delta(position, dict(zip(read, texts, strict=True)))
            read = sorted(changed)

    async def scan(self) -> AsyncIterator[Mapping[FlagId, str]]:
        """Yields all flags as JSON, about 25 at a time. A flag that is written during that may be missing or old. The
        caller therefore takes the position before the first slice, and then applies the changes `since` that position.
        """
        for environment in Environment:
            cursor = 0
            while True:
                reply: Any = await self._redis.hscan(_flags(environment), cursor, count=SLICE)
                cursor, found = reply
                yield {FlagId(environment, key): text for key, text in found.items()}
                if cursor == 0:
                    break

    async def wait_for_change(self, seen: StorePosition, timeout_s: float) -> None:
        """Waits until something is written after `seen`, at most `timeout_s` seconds. A write by an earlier version of
        the service, which does not use the stream of changes, does not end the wait.
        """
        await self._redis.xread({CHANGES: seen.entry or "0"}, count=1, block=int(1000 * timeout_s))

    async def load(self) -> tuple[int, list[Flag]]:
        """Returns the version and all flags, read in one transaction."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(VERSION)
            for environment in Environment:
                pipe.hvals(_flags(environment))
            version, *flags = await pipe.execute()
        return int(version or 0), [Flag.model_validate_json(text) for texts in flags for text in texts]

    async def change(self, keys: Collection[str] | None, decide: Decide, *, actor: str, at: datetime) -> list[Change]:
        """Calls `decide` with the flags of these keys in all environments (None: all flags), and stores the definitions
        that it returns (None deletes a flag). Version, history (with the author `actor` and the time `at`), mirror keys
        and events are stored in the same transaction. Returns the changes; an empty list if nothing differs. If another
        writer comes first, `decide` is called again with the new flags; after 30 s of that, raises Unavailable. Passes
        on an exception of `decide`, and then stores nothing. Raises Conflict if `metadata.mirror` names a Redis key
        that another flag owns.
        """
        until = time.monotonic() + self._patience_s
        async with self._redis.pipeline(transaction=True) as pipe:
            while True:
                try:
                    await pipe.watch(VERSION)  # every write increments it, so the later of two writers starts again
                    version: Any = await pipe.get(VERSION)
                    flags = await _read(pipe, keys)
                    changes = changes_of(flags, decide(flags), actor, at)
                    if changes:
                        owners = await _owners(pipe, changes)
                        left = mirrors_after(owners, changes)
                        pipe.multi()  # type: ignore[no-untyped-call]
                        _write(pipe, changes, int(version or 0) + 1)
                        _write_owners(pipe, owners, left)
                        await pipe.execute()
                    return changes
                except WatchError:
                    if time.monotonic() > until:
                        raise Unavailable(
                            f"others kept changing flags for {self._patience_s:.0f} s; nothing was written; try again"
                        ) from None

    async def history(self, key: str, *, limit: int, before: str | None = None) -> list[tuple[str, Change]]:
        """Returns up to `limit` pairs (id, change) of the flag, newest first; with `before`, only changes that are
        older than the one with that id. A deleted flag keeps its history.
        """
        newest = f"({before}" if before else "+"
        entries: Any = await self._redis.xrevrange(_history(key), max=newest, count=limit)
        return [(entry_id, Change.model_validate_json(fields["change"])) for entry_id, fields in entries]

    async def note_evaluated(self, times: Mapping[FlagId, datetime]) -> None:
        """Stores, for each of these flags, the time of its last evaluation."""
        async for part in sliced(times.items()):
            async with self._redis.pipeline(transaction=True) as pipe:
                for flag_id, at in part:
                    pipe.hset(_evaluated(flag_id.environment), flag_id.key, at.isoformat())
                await pipe.execute()

    async def evaluated(self, flag_ids: Sequence[FlagId]) -> dict[FlagId, datetime]:
        """Returns flag → the stored time of its last evaluation. Flags without a time are left out. When a flag is
        deleted, so is its time.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for flag_id in flag_ids:
                pipe.hget(_evaluated(flag_id.environment), flag_id.key)
            times = await pipe.execute()
        return {flag_id: datetime.fromisoformat(at) for flag_id, at in zip(flag_ids, times, strict=True) if at}


def _changed(seen: StorePosition, version: int, entries: Sequence[tuple[str, Mapping[str, str]]]) -> set[FlagId] | None:
    """Returns the flags that changed between the position `seen` and `version`. `entries` holds the stream of changes
    from `seen.entry` on. Returns None if the entries do not cover every change.
    """
    if seen.entry:
        if not entries or entries[0][0] != seen.entry:
            return None
        entries = entries[1:]
    if [int(fields["version"]) for _, fields in entries] != list(range(seen.version + 1, version + 1)):
        return None
    if not all("flags" in fields for _, fields in entries):
        return None
    named = (each.partition(":") for _, fields in entries for each in fields["flags"].split())
    return {FlagId(Environment(environment), key) for environment, _, key in named}


async def _read(pipe: Pipeline, keys: Collection[str] | None) -> dict[FlagId, Flag]:
    flags = {}
    for environment in Environment:
        texts: Any = await (
            pipe.hvals(_flags(environment)) if keys is None else pipe.hmget(_flags(environment), list(keys))
        )
        for flag in (Flag.model_validate_json(text) for text in texts if text):
            flags[FlagId(environment, flag.key)] = flag
    return flags


async def _owners(pipe: Pipeline, changes: Sequence[Change]) -> dict[str, str]:
    """Returns name of a Redis key → key of the flag that owns it, for those names in `metadata.mirror` of the changed
    flags that have an owner.
    """
    definitions = [each for change in changes for each in (change.before, change.after) if each]
    names = list({each.mirror for each in definitions if each.mirror})
    owners: Any = await pipe.hmget(MIRRORS, names) if names else []
    return {name: owner for name, owner in zip(names, owners, strict=True) if owner}


def _write(pipe: Pipeline, changes: list[Change], version: int) -> None:
    pipe.set(VERSION, version)
    told = {"version": str(version)}
    if len(changes) <= MANY:
        told["flags"] = " ".join(f"{change.environment}:{change.key}" for change in changes)
    pipe.xadd(CHANGES, told, maxlen=VERSIONS_KEPT)  # type: ignore[arg-type]
    values: dict[str, str] = {}
    gone: set[str] = set()
    for change in changes:
        if flag := flag_after(change):
            pipe.hset(_flags(change.environment), change.key, flag.model_dump_json(by_alias=True))
        else:
            pipe.hdel(_flags(change.environment), change.key)
            pipe.hdel(_evaluated(change.environment), change.key)
        pipe.xadd(_history(change.key), {"change": change.model_dump_json(by_alias=True)}, maxlen=HISTORY_KEPT)
        for name, value in mirrored(change).items():
            if value is None:
                gone.add(name)
            else:
                values[name] = value
        events.append(pipe, _event(change))
    if gone - values.keys():  # one transaction may move a mirror from one flag to another
        pipe.delete(*(gone - values.keys()))
    if values:
        pipe.mset(values)


def _write_owners(pipe: Pipeline, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    if gone := before.keys() - after.keys():
        pipe.hdel(MIRRORS, *gone)
    for name, owner in after.items():
        if before.get(name) != owner:
            pipe.hset(MIRRORS, name, owner)


def _event(change: Change) -> Event:
    reason = f"flag {change.key} was {change.kind} in {change.environment} by {change.actor}"
    return Event(
        type="flag.changed", app="", at=change.at, id=change.key, reason=reason, environment=change.environment
    )


def _flags(environment: Environment) -> str:
    return f"flags:flag:{environment}"


def _evaluated(environment: Environment) -> str:
    return f"flags:evaluated:{environment}"


def _history(key: str) -> str:
    return f"flags:history:{key}"
