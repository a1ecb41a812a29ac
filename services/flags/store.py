"""Stores flags in Redis."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline, PubSub
from redis.exceptions import WatchError

from services.flags.change import Decide, FlagId, changes_of, flag_after, mirrors_after
from services.flags.flag import Change, Flag, mirrored
from shared import events
from shared.models import Environment, Event

VERSION = "flags:version"
CHANGED = "flags:changed"  # channel: a word to every copy of the service that the version is another
MIRRORS = "flags:mirror"  # hash: plain key that an owner asked for → key of the flag that has it
HISTORY_KEPT = 1000


class FlagStore:
    """Stores flags. Several instances of the service may write at once; each write is atomic. Methods raise RedisError
    when Redis does not answer. Keys:

    `flags:flag:<environment>`: hash of flag key → Flag.
    `flags:evaluated:<environment>`: hash of flag key → time.
    `flags:history:<key>`: stream of Change, about the last 1000.
    `flags:version`, `flags:mirror` and the channel `flags:changed`: see the constants.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._channel: PubSub | None = None

    async def version(self) -> int:
        """Returns a number that differs after every change."""
        return int(await self._redis.get(VERSION) or 0)

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
        that it returns (None deletes a flag) in one transaction with the version, history, mirror keys and events.

        Returns the changes, or an empty list if nothing differs. If another writer comes first, `decide` is called
        again with its result. An exception of `decide` is passed on, and nothing is stored. Raises Conflict if
        `metadata.mirror` names a Redis key that another flag owns.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            while True:
                try:
                    await pipe.watch(VERSION)  # every write increments it: a writer that comes second starts again
                    flags = await _read(pipe, keys)
                    changes = changes_of(flags, decide(flags), actor, at)
                    if changes:
                        owners: Any = await pipe.hgetall(MIRRORS)
                        left = mirrors_after(owners, changes)
                        pipe.multi()  # type: ignore[no-untyped-call]
                        _write(pipe, changes)
                        _write_owners(pipe, owners, left)
                        await pipe.execute()
                    return changes
                except WatchError:
                    continue

    async def announced(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` seconds for the announcement of a change; may return early without one. A change
        before the first call or while Redis is down may not be announced, so compare `version()` afterwards.
        """
        if self._channel is None:
            channel = self._redis.pubsub()
            await channel.subscribe(CHANGED)
            self._channel = channel  # it subscribes again by itself when the connection was lost
        await self._channel.get_message(timeout=timeout_s)

    async def history(self, key: str, *, limit: int, before: str | None = None) -> list[tuple[str, Change]]:
        """Returns up to `limit` changes of the flag that are older than the id `before`, newest first, each with its
        id. A deleted flag keeps its history.
        """
        newest = f"({before}" if before else "+"
        entries: Any = await self._redis.xrevrange(_history(key), max=newest, count=limit)
        return [(entry_id, Change.model_validate_json(fields["change"])) for entry_id, fields in entries]

    async def note_evaluated(self, times: Mapping[FlagId, datetime]) -> None:
        """Stores when these flags were last evaluated."""
        async with self._redis.pipeline(transaction=True) as pipe:
            for flag_id, at in times.items():
                pipe.hset(_evaluated(flag_id.environment), flag_id.key, at.isoformat())
            await pipe.execute()

    async def evaluated(self) -> dict[FlagId, datetime]:
        """Returns the times that `note_evaluated` stored; deleting a flag also deletes its time."""
        found: dict[FlagId, datetime] = {}
        for environment in Environment:
            times: Any = await self._redis.hgetall(_evaluated(environment))
            found |= {FlagId(environment, key): datetime.fromisoformat(at) for key, at in times.items()}
        return found


async def _read(pipe: Pipeline, keys: Collection[str] | None) -> dict[FlagId, Flag]:
    flags = {}
    for environment in Environment:
        texts: Any = await (
            pipe.hvals(_flags(environment)) if keys is None else pipe.hmget(_flags(environment), list(keys))
        )
        for flag in (Flag.model_validate_json(text) for text in texts if text):
            flags[FlagId(environment, flag.key)] = flag
    return flags


def _write(pipe: Pipeline, changes: list[Change]) -> None:
    pipe.incr(VERSION)
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
    if gone - values.keys():  # a mirror may pass from one flag to another in one go
        pipe.delete(*(gone - values.keys()))
    if values:
        pipe.mset(values)
    pipe.publish(CHANGED, "")


def _write_owners(pipe: Pipeline, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    if gone := before.keys() - after.keys():
        pipe.hdel(MIRRORS, *gone)
    for name in after:
        pipe.hset(MIRRORS, name, after[name])


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
