"""Stores releases, instances and overrides (settings of an environment that replace those of the manifest) in Redis.
Values of variables and secrets are encrypted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

from redis.asyncio import Redis

from services.deployer.kept import KeptParts
from services.deployer.plan.apply_changes import Commit
from services.deployer.plan.observe import World
from services.deployer.releases.environment import EnvironmentId, Override
from services.deployer.releases.instance import Instance
from services.deployer.releases.override_encryption import OverrideEncryption
from services.deployer.releases.release import ENDED, Release, expired
from shared import events
from shared.models import Environment, Event

ENVIRONMENTS = "deployer:places"
NOUNS = ("releases", "open", "instances", "override")
PRUNED_AT_ONCE = 100
PRUNED_IN_ALL = 1000
CACHED = 1000  # parsed records that are kept; they are never changed in place


def is_open(release: Release) -> bool:
    """Returns True if the deployer still has work with the release: the release has not ended, its canary rollout must
    still be aborted, or it has left the environment without an instance that gets visitors.
    """
    return release.state not in ENDED or release.abort_rollout or release.is_down


@dataclass(frozen=True)
class LiveInstances:
    """Holds the instances of one environment that may still have processes, and the releases of these instances."""

    instances: list[Instance]
    releases: list[Release]


class Store:
    """Stores the deployer's state; each write is atomic. Methods raise `redis.RedisError` if Redis is unreachable."""

    def __init__(self, redis: Redis, encryption: OverrideEncryption) -> None:
        self._redis = redis
        self._encryption = encryption
        self._pruned_to: dict[EnvironmentId, int] = {}
        """Number of releases of the environments from which nothing can be pruned."""
        self._versions: Counter[str] = Counter()
        self._all = KeptParts(self._read_all_instances, self._read_instances)

    def version(self, app: str) -> int:
        """Returns a number that increases each time this object stores a change of the app's releases or instances. It
        stays the same while the caller holds the locks of all environments of the app, since each such change needs one
        of these locks.
        """
        return self._versions[app]

    async def next_number(self, app: str) -> int:
        """Returns the number of the app's next release. No number is returned twice."""
        number: int = await self._redis.incr(f"deployer:number:{app}")
        return number

    async def commit(self, environment_id: EnvironmentId, commit: Commit) -> None:
        """Stores the changes and their events in one transaction."""
        self._versions[environment_id.app] += 1
        async with self._redis.pipeline(transaction=True) as pipe:
            for release in commit.releases.values():
                pipe.set(_release_key(release.id), release.model_dump_json())
                pipe.zadd(_key("releases", environment_id), {release.id: release.number})
                (pipe.sadd if is_open(release) else pipe.srem)(_key("open", environment_id), release.id)
                pipe.sadd(ENVIRONMENTS, str(environment_id))
            for instance in commit.instances.values():
                pipe.hset(_key("instances", environment_id), instance.id, instance.model_dump_json())
            for instance in commit.dropped:
                pipe.hdel(_key("instances", environment_id), instance.id)
            if commit.override is not None:
                pipe.set(_key("override", environment_id), self._encryption.seal(commit.override))
            for event in commit.events:
                events.append(pipe, event)
            await pipe.execute()
        self._all.drop(environment_id)

    async def load(self, environment_id: EnvironmentId) -> World:
        """Returns what is stored about the environment: its instances, its override, and those of its releases that
        need work or have instances. Fields that are not stored (from the driver, the probes, the registry and the
        proxy) have default values.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.smembers(_key("open", environment_id))
            pipe.hvals(_key("instances", environment_id))
            pipe.get(_key("override", environment_id))
            open_ids, values, override = await pipe.execute()
        instances = sorted(map(_instance, values), key=_age)
        ids = sorted(open_ids | {instance.release for instance in instances})
        return World(
            releases={release.id: release for release in await self._releases(ids)},
            instances={instance.id: instance for instance in instances},
            override=self._encryption.open(override) if override else Override(),
        )

    async def all_instances(self) -> tuple[Sequence[Instance], Mapping[str, Release]]:
        """Returns the instances of all environments that may still have processes, and release id → release for the
        releases of these instances. An environment's part of the result is cached until this object stores a change of
        the environment, for at most 5 s.
        """
        parts = (await self._all.get()).values()
        releases = {release.id: release for part in parts for release in part.releases}
        return [instance for part in parts for instance in part.instances], releases

    async def release(self, release_id: str) -> Release | None:
        return next(iter(await self._releases([release_id])), None)

    async def releases(
        self, environment_id: EnvironmentId, *, before: int | None = None, limit: int | None = None
    ) -> list[Release]:
        """Returns the environment's releases, newest first: at most `limit` of them, and only those with a number below
        `before`. None stands for no such bound.
        """
        highest = "+inf" if before is None else f"({before}"
        start, num = (None, None) if limit is None else (0, limit)
        ids = await self._redis.zrevrangebyscore(
            _key("releases", environment_id), highest, "-inf", start=start, num=num
        )
        return await self._releases([str(each) for each in ids])

    async def prune(self, environment_ids: Sequence[EnvironmentId], *, releases: int, records: int) -> None:
        """Deletes the records of ended releases, except the newest `records` of each environment and older ones that
        are still needed, such as those with instances, the target of a rollback, and those whose artifacts are kept
        (`releases` is how many of the newest keep theirs). One call deletes at most 100 of an environment and about
        1000 in all, so callers repeat it.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for environment_id in environment_ids:
                pipe.zcard(_key("releases", environment_id))
            counts: list[int] = await pipe.execute()
        left = PRUNED_IN_ALL
        for environment_id, count in zip(environment_ids, counts, strict=True):
            if left > 0 and count > records and count != self._pruned_to.get(environment_id):
                deleted = await self._prune(environment_id, releases, records)
                left -= deleted
                if not deleted:  # nothing to do until another release is made
                    self._pruned_to[environment_id] = count

    async def _prune(self, environment_id: EnvironmentId, count: int, records: int) -> int:
        newest = await self.releases(environment_id, limit=records + PRUNED_AT_ONCE)
        in_use = {instance.release for instance in (await self.load(environment_id)).instances.values()}
        gone = [release.id for release in expired(newest, records, count, in_use) if not is_open(release)]
        if gone:  # the record of an ended release without instances does not change any more
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(*map(_release_key, gone))
                pipe.zrem(_key("releases", environment_id), *gone)
                await pipe.execute()
        return len(gone)

    async def environments(self) -> list[EnvironmentId]:
        """Returns the environments that have had a release or an override and were not removed since, sorted."""
        names = sorted(str(name) for name in await self._redis.smembers(ENVIRONMENTS))
        return [
            EnvironmentId(app, Environment(environment)) for app, environment in (name.split("/") for name in names)
        ]

    async def save_override(self, environment_id: EnvironmentId, override: Override) -> None:
        """Stores the override (settings of the environment that replace those of the manifest), with encrypted values.
        Computes its digest `configuration` anew if every stored value could be decrypted.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_key("override", environment_id), self._encryption.seal(override))
            pipe.sadd(ENVIRONMENTS, str(environment_id))
            await pipe.execute()

    async def remove(self, environment_id: EnvironmentId, event: Event) -> None:
        """Deletes all records of the environment and appends the event, in one transaction. The counter from which the
        app's releases get their numbers stays.
        """
        ids = await self._redis.zrange(_key("releases", environment_id), 0, -1)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(*(_release_key(str(each)) for each in ids), *(_key(noun, environment_id) for noun in NOUNS))
            pipe.srem(ENVIRONMENTS, str(environment_id))
            events.append(pipe, event)
            await pipe.execute()
        self._versions[environment_id.app] += 1
        self._pruned_to.pop(environment_id, None)
        self._all.drop(environment_id)

    async def forget_number(self, app: str) -> None:
        """Deletes the counter of the app's releases, so that the next release has number 1."""
        await self._redis.delete(f"deployer:number:{app}")

    async def _read_all_instances(self) -> dict[EnvironmentId, LiveInstances]:
        return await self._read_instances(frozenset(await self.environments()))

    async def _read_instances(self, environment_ids: Set[EnvironmentId]) -> dict[EnvironmentId, LiveInstances]:
        in_order = sorted(environment_ids, key=str)
        async with self._redis.pipeline(transaction=False) as pipe:
            for environment_id in in_order:
                pipe.hvals(_key("instances", environment_id))
            found: list[list[str]] = await pipe.execute()
        live = [[each for each in map(_instance, values) if each.ended_at is None] for values in found]
        ids = sorted({instance.release for instances in live for instance in instances})
        by_id = {release.id: release for release in await self._releases(ids)}
        return {
            environment_id: LiveInstances(
                instances, [by_id[each] for each in sorted({one.release for one in instances} & by_id.keys())]
            )
            for environment_id, instances in zip(in_order, live, strict=True)
            if instances
        }

    async def _releases(self, ids: Sequence[str]) -> list[Release]:
        values = await self._redis.mget([_release_key(each) for each in ids]) if ids else []
        return [_release(value) for value in values if value]


@lru_cache(CACHED)
def _release(text: str) -> Release:
    return Release.model_validate_json(text)


@lru_cache(CACHED)
def _instance(text: str) -> Instance:
    return Instance.model_validate_json(text)


def _release_key(release_id: str) -> str:
    return f"deployer:release:{release_id}"


def _key(noun: str, environment_id: EnvironmentId) -> str:
    return f"deployer:{noun}:{environment_id.app}:{environment_id.environment}"


def _age(instance: Instance) -> tuple[float, int, str]:
    return instance.created_at.timestamp(), len(instance.id), instance.id
