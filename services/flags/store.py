"""Where flags live. The only user of Redis in this service."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from services.flags.flag import Change, Definition, Flag, mirrored
from shared import events
from shared.errors import Conflict
from shared.models import Environment, Event

VERSION = "flags:version"
MIRRORS = "flags:mirror"  # hash: plain key that an owner asked for → key of the flag that has it
HISTORY_KEPT = 1000

Decide = Callable[[Definition | None], Definition | None]


class FlagStore(Protocol):
    """Every method raises `redis.RedisError` when the store is out of reach; then nothing has been changed, or all."""

    async def version(self) -> int:
        """Grows with every change."""
        ...

    async def load(self) -> tuple[int, list[Flag]]:
        """All flags, and the version that they are."""
        ...

    async def change(
        self, key: str, environments: Sequence[Environment], decide: Decide, *, actor: str, at: datetime
    ) -> list[Change]:
        """Asks `decide` in each environment what comes after the current definition (None: no flag), and stores the
        differences with version, history, mirrors and event at once. What `decide` raises ends it, nothing changed.
        `decide` may be asked again if another writer was first. Returns what changed; nothing, if all is so already.
        Raises Conflict if the mirror's name is another flag's.
        """
        ...

    async def history(self, key: str, *, limit: int, before: str | None = None) -> list[tuple[str, Change]]:
        """The changes of a flag with their ids, newest first, those older than the id `before`. Outlives the flag."""
        ...


class RedisFlagStore:
    """`flags:flag:<environment>`: hash key → Flag; `flags:history:<key>`: stream of Change; `flags:version`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def version(self) -> int:
        return int(await self._redis.get(VERSION) or 0)

    async def load(self) -> tuple[int, list[Flag]]:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(VERSION)
            for environment in Environment:
                pipe.hvals(_flags(environment))
            version, *flags = await pipe.execute()
        return int(version or 0), [Flag.model_validate_json(text) for texts in flags for text in texts]

    async def change(
        self, key: str, environments: Sequence[Environment], decide: Decide, *, actor: str, at: datetime
    ) -> list[Change]:
        async with self._redis.pipeline(transaction=True) as pipe:
            while True:
                try:
                    await pipe.watch(VERSION)  # every write bumps it: whoever was second starts again
                    stored = {environment: await pipe.hget(_flags(environment), key) for environment in environments}
                    flags = {name: Flag.model_validate_json(text) if text else None for name, text in stored.items()}
                    changes = _changes(key, flags, decide, actor, at)
                    if changes:
                        owners: Any = await pipe.hgetall(MIRRORS)
                        _refuse_taken(changes, owners)
                        pipe.multi()  # type: ignore[no-untyped-call]
                        _write(pipe, key, changes, at)
                        await pipe.execute()
                    return changes
                except WatchError:
                    continue

    async def history(self, key: str, *, limit: int, before: str | None = None) -> list[tuple[str, Change]]:
        newest = f"({before}" if before else "+"
        entries: Any = await self._redis.xrevrange(_history(key), max=newest, count=limit)
        return [(entry_id, Change.model_validate_json(fields["change"])) for entry_id, fields in entries]


class MemoryFlagStore:
    """For tests and for reading: the same rules without a server, for one process."""

    def __init__(self) -> None:
        self._version = 0
        self._flags: dict[tuple[Environment, str], Flag] = {}
        self._history: list[Change] = []

    async def version(self) -> int:
        return self._version

    async def load(self) -> tuple[int, list[Flag]]:
        return self._version, list(self._flags.values())

    async def change(
        self, key: str, environments: Sequence[Environment], decide: Decide, *, actor: str, at: datetime
    ) -> list[Change]:
        flags = {environment: self._flags.get((environment, key)) for environment in environments}
        changes = _changes(key, flags, decide, actor, at)
        owned = [flag for (name, _), flag in self._flags.items() if name == Environment.PRODUCTION]
        _refuse_taken(changes, {flag.definition.mirror: flag.key for flag in owned if flag.definition.mirror})
        for change in changes:
            self._flags.pop((change.environment, key), None)
            if change.after:
                self._flags[change.environment, key] = _flag(change, change.after)
        self._history += changes
        self._version += bool(changes)
        return changes

    async def history(self, key: str, *, limit: int, before: str | None = None) -> list[tuple[str, Change]]:
        entries = [(str(index), change) for index, change in enumerate(self._history) if change.key == key]
        older = [entry for entry in entries if before is None or int(entry[0]) < int(before)]
        return older[::-1][:limit]


class RedisAppUser:
    """The Redis user that apps are given: it may read the mirrors, and nothing else."""

    NAME = "app"
    # What the usual client libraries send by themselves, and the reading commands.
    COMMANDS = ("auth", "hello", "ping", "select", "quit", "client|setinfo", "client|setname", "client|id")
    READS = ("get", "mget", "exists", "strlen", "ttl", "type")

    def __init__(self, redis: Redis, password: str) -> None:
        self._redis = redis
        self._digest = hashlib.sha256(password.encode()).hexdigest()

    async def ensure(self) -> None:
        """Makes or corrects the user; cheap, and harmless to clients that are logged in. Redis forgets it when it
        restarts, so this is repeated.
        """
        mirrors = await self._redis.hkeys(MIRRORS)
        await self._redis.acl_setuser(
            self.NAME,
            enabled=True,
            reset=True,
            hashed_passwords=[f"+{self._digest}"],
            commands=[f"+{command}" for command in self.COMMANDS + self.READS],
            keys=["flag:*", *mirrors],
        )


def _changes(key: str, flags: dict[Environment, Flag | None], decide: Decide, actor: str, at: datetime) -> list[Change]:
    changes = []
    for environment, flag in flags.items():
        before = flag.definition if flag else None
        after = decide(before)
        if after != before:
            changes.append(Change(key=key, environment=environment, at=at, actor=actor, before=before, after=after))
    return changes


def _refuse_taken(changes: list[Change], owners: dict[str, str]) -> None:
    for change in changes:
        name = change.after.mirror if change.after and change.environment == Environment.PRODUCTION else None
        owner = owners.get(name, change.key) if name else change.key
        if owner != change.key:
            raise Conflict(f"metadata.mirror: {name} is the mirror of flag {owner}; choose another name")


def _write(pipe: Pipeline, key: str, changes: list[Change], at: datetime) -> None:
    pipe.incr(VERSION)
    for change in changes:
        if change.after:
            pipe.hset(_flags(change.environment), key, _flag(change, change.after).model_dump_json(by_alias=True))
        else:
            pipe.hdel(_flags(change.environment), key)
        pipe.xadd(_history(key), {"change": change.model_dump_json(by_alias=True)}, maxlen=HISTORY_KEPT)
        for name, value in mirrored(change).items():
            if value is None:
                pipe.delete(name)
            else:
                pipe.set(name, value)
        if change.environment == Environment.PRODUCTION:
            if change.before and change.before.mirror:
                pipe.hdel(MIRRORS, change.before.mirror)
            if change.after and change.after.mirror:
                pipe.hset(MIRRORS, change.after.mirror, key)
        events.append(pipe, _event(change))


def _event(change: Change) -> Event:
    what = "deleted" if change.after is None else "changed" if change.before else "made"
    reason = f"flag {change.key} was {what} in {change.environment} by {change.actor}"
    return Event(
        type="flag.changed", app="", at=change.at, id=change.key, reason=reason, environment=change.environment
    )


def _flag(change: Change, definition: Definition) -> Flag:
    return Flag(key=change.key, environment=change.environment, definition=definition, updated_at=change.at)


def _flags(environment: Environment) -> str:
    return f"flags:flag:{environment}"


def _history(key: str) -> str:
    return f"flags:history:{key}"
