"""Stores releases, instances and overrides in Redis. Overrides are encrypted first: no value of a variable or secret is
stored in the clear.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from redis.asyncio import Redis

from services.deployer.plan.apply_changes import Commit
from services.deployer.releases.environment import EnvironmentId, Override
from services.deployer.releases.instance import Instance
from services.deployer.releases.override_encryption import OverrideEncryption
from services.deployer.releases.release import ENDED, Release
from shared import events
from shared.models import Environment, Event

PLACES = "deployer:places"


@dataclass(frozen=True)
class Stored:
    """The stored state of one environment."""

    releases: dict[str, Release]
    """Releases that are open or have instances, by id."""
    instances: dict[str, Instance]
    """Instances by id, oldest first."""
    override: Override


class Store(Protocol):
    """Stores the deployer's state. Every method raises `redis.RedisError` when the store is out of reach; a change is
    then applied completely or not at all.
    """

    async def next_number(self, app: str) -> int:
        """Returns the number of the app's next release; never the same twice."""
        ...

    async def commit(self, place: EnvironmentId, commit: Commit) -> None:
        """Writes the commit and its events in one transaction."""
        ...

    async def load(self, place: EnvironmentId) -> Stored: ...

    async def release(self, release_id: str) -> Release | None: ...

    async def releases(
        self, place: EnvironmentId, *, before: int | None = None, limit: int | None = None
    ) -> list[Release]:
        """Returns the environment's releases, newest first: at most `limit`, with numbers below `before`."""
        ...

    async def places(self) -> list[EnvironmentId]:
        """Returns the environments that ever had a release or an override, sorted."""
        ...

    async def save_override(self, place: EnvironmentId, override: Override) -> None:
        """Writes the override. Its `configuration` is recomputed from its values, unless some are locked."""
        ...


def is_open(release: Release) -> bool:
    """Returns True if the release still needs work: it has not ended, or its rollout must be aborted, or it is down."""
    return release.state not in ENDED or release.abort_rollout or release.is_down


class RedisStore:
    def __init__(self, redis: Redis, vault: OverrideEncryption) -> None:
        self._redis = redis
        self._vault = vault

    async def next_number(self, app: str) -> int:
        number: int = await self._redis.incr(f"deployer:number:{app}")
        return number

    async def commit(self, place: EnvironmentId, commit: Commit) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            for release in commit.releases.values():
                pipe.set(_release_key(release.id), release.model_dump_json())
                pipe.zadd(_key("releases", place), {release.id: release.number})
                (pipe.sadd if is_open(release) else pipe.srem)(_key("open", place), release.id)
                pipe.sadd(PLACES, str(place))
            for instance in commit.instances.values():
                pipe.hset(_key("instances", place), instance.id, instance.model_dump_json())
            for instance in commit.dropped:
                pipe.hdel(_key("instances", place), instance.id)
            if commit.override is not None:
                pipe.set(_key("override", place), self._vault.seal(commit.override))
            for event in commit.events:
                events.append(pipe, event)
            await pipe.execute()

    async def load(self, place: EnvironmentId) -> Stored:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.smembers(_key("open", place))
            pipe.hvals(_key("instances", place))
            pipe.get(_key("override", place))
            open_ids, values, override = await pipe.execute()
        instances = sorted((Instance.model_validate_json(value) for value in values), key=_age)
        ids = sorted(open_ids | {instance.release for instance in instances})
        return Stored(
            releases={release.id: release for release in await self._releases(ids)},
            instances={instance.id: instance for instance in instances},
            override=self._vault.open(override) if override else Override(),
        )

    async def release(self, release_id: str) -> Release | None:
        return next(iter(await self._releases([release_id])), None)

    async def releases(
        self, place: EnvironmentId, *, before: int | None = None, limit: int | None = None
    ) -> list[Release]:
        highest = "+inf" if before is None else f"({before}"
        start, num = (None, None) if limit is None else (0, limit)
        ids = await self._redis.zrevrangebyscore(_key("releases", place), highest, "-inf", start=start, num=num)
        return await self._releases([str(each) for each in ids])

    async def places(self) -> list[EnvironmentId]:
        names = sorted(str(name) for name in await self._redis.smembers(PLACES))
        return [
            EnvironmentId(app, Environment(environment)) for app, environment in (name.split("/") for name in names)
        ]

    async def save_override(self, place: EnvironmentId, override: Override) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_key("override", place), self._vault.seal(override))
            pipe.sadd(PLACES, str(place))
            await pipe.execute()

    async def _releases(self, ids: Sequence[str]) -> list[Release]:
        values = await self._redis.mget([_release_key(each) for each in ids]) if ids else []
        return [Release.model_validate_json(value) for value in values if value]


def _release_key(release_id: str) -> str:
    return f"deployer:release:{release_id}"


def _key(noun: str, place: EnvironmentId) -> str:
    return f"deployer:{noun}:{place.app}:{place.environment}"


def _age(instance: Instance) -> tuple[float, int, str]:
    return instance.created_at.timestamp(), len(instance.id), instance.id


class MemoryStore:
    """A store in memory for tests. `events` are in the order of their commits; a test may replace `vault`."""

    def __init__(self, vault: OverrideEncryption) -> None:
        self.events: list[Event] = []
        self.vault = vault
        self._numbers: dict[str, int] = {}
        self._releases: dict[str, Release] = {}
        self._instances: dict[str, Instance] = {}
        self._overrides: dict[EnvironmentId, str] = {}

    async def next_number(self, app: str) -> int:
        self._numbers[app] = self._numbers.get(app, 0) + 1
        return self._numbers[app]

    async def commit(self, place: EnvironmentId, commit: Commit) -> None:
        self._releases |= commit.releases
        self._instances |= commit.instances
        for instance in commit.dropped:
            self._instances.pop(instance.id, None)
        if commit.override is not None:
            self._overrides[place] = self.vault.seal(commit.override)
        self.events += commit.events

    async def load(self, place: EnvironmentId) -> Stored:
        instances = sorted((i for i in self._instances.values() if i.place == place), key=_age)
        used = {instance.release for instance in instances}
        here = (release for release in self._releases.values() if release.place == place)
        override = self._overrides.get(place)
        return Stored(
            releases={release.id: release for release in here if is_open(release) or release.id in used},
            instances={instance.id: instance for instance in instances},
            override=self.vault.open(override) if override else Override(),
        )

    async def release(self, release_id: str) -> Release | None:
        return self._releases.get(release_id)

    async def releases(
        self, place: EnvironmentId, *, before: int | None = None, limit: int | None = None
    ) -> list[Release]:
        here = [r for r in self._releases.values() if r.place == place and (before is None or r.number < before)]
        return sorted(here, key=lambda release: -release.number)[:limit]

    async def places(self) -> list[EnvironmentId]:
        return sorted({release.place for release in self._releases.values()} | self._overrides.keys(), key=str)

    async def save_override(self, place: EnvironmentId, override: Override) -> None:
        self._overrides[place] = self.vault.seal(override)
