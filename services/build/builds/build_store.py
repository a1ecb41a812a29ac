"""Stores apps and builds in Redis."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from services.build.builds.app import App
from services.build.builds.build import JUDGED, Build, Expired, event_of, with_expiry
from services.build.builds.status_store import STATUSES, mark
from services.build.system.api_call import api_call
from shared import events
from shared.errors import Conflict, NotFound
from shared.models import Event

BATCH = 100
NOUNS = ("app", "heads", "judged", "number", "of")
Change = Callable[[Build], Build]
Head = tuple[str, str]  # commit, id of the build that was queued for it (empty: it is not to be built)


class BuildStore:
    """Stores apps and builds. Keys: `build:app:<app>`, `build:apps`, `build:number:<app>`, `build:build:<id>`,
    `build:place` (counter of positions), the sorted sets `build:all`, `build:of:<app>` and `build:unended` (build ids
    by position), and the hashes `build:heads:<app>` and `build:judged:<app>` (by branch). Every method raises
    `RedisError` when Redis is unreachable; each write is atomic. A change of a build's state, its event `build.<state>`
    and its commit statuses are stored in one transaction. Only one process may write.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def app_names(self) -> list[str]:
        """Returns the names of all apps, sorted."""
        return sorted(str(name) for name in await self._redis.smembers("build:apps"))

    async def apps(self, names: Sequence[str] | None = None) -> list[App]:
        """Returns the apps with these names, or all apps if `names` is None, sorted by name."""
        return [App.model_validate_json(record) for record in (await self.app_records(names)).values()]

    async def app_records(self, names: Sequence[str] | None = None) -> dict[str, str]:
        """Returns name → stored record (JSON) of the apps with these names, or of all apps if `names` is None, sorted
        by name. It parses nothing, so it is cheap for a caller that only checks whether an app has changed.
        """
        names = await self.app_names() if names is None else sorted(names)
        records: list[Any] = await self._redis.mget([_app(name) for name in names]) if names else []
        return {name: record for name, record in zip(names, records, strict=True) if record}

    async def app(self, name: str) -> App:
        """Returns the app. Raises NotFound if there is none of this name."""
        text = await self._redis.get(_app(name))
        if text is None:
            made = api_call("POST", "/apps", {"name": name})
            raise NotFound(f"there is no app {name}; a push to /git/{name}.git makes it, or {made}")
        return App.model_validate_json(text)

    async def add_app(self, app: App) -> None:
        """Adds an app. Raises Conflict if the name is taken."""
        if (text := await self._redis.get(_app(app.name))) is not None:
            App.model_validate_json(text).check_stays()
            raise Conflict(
                f"there is an app {app.name} already; choose another name, or change that app: send the same without "
                f"`name` by PUT to /apps/{app.name}"
            )
        await self.put_app(app)

    async def put_app(self, app: App) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_app(app.name), app.model_dump_json())
            pipe.sadd("build:apps", app.name)
            await pipe.execute()

    async def change_app(self, app: App) -> None:
        """Replaces the stored app of the same name. Raises NotFound if the app has been removed."""
        if not await self._redis.set(_app(app.name), app.model_dump_json(), xx=True):
            raise NotFound(f"there is no app {app.name} any more")

    async def remove_app(self, name: str, event: Event) -> None:
        """Removes the app, the heads of its branches and its counter of builds, and appends the event, in one
        transaction. The caller has to `drop` all its builds first.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(*(f"build:{noun}:{name}" for noun in NOUNS))
            pipe.srem("build:apps", name)
            events.append(pipe, event)
            await pipe.execute()

    async def next_number(self, app: str) -> int:
        """Returns the app's next build number, from 1. No number is returned twice."""
        return int(await self._redis.incr(f"build:number:{app}"))

    async def add(self, build: Build, *, is_head: bool) -> None:
        """Adds a queued build. With `is_head`, its commit is recorded as the last one queued for its branch. Does
        nothing if the build exists.
        """
        position = await self._redis.incr("build:place")

        async def write(pipe: Pipeline) -> None:
            if await pipe.exists(_build(build.id)):
                return
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.set(_build(build.id), build.model_dump_json())
            for index in ("build:all", f"build:of:{build.app}", "build:unended"):
                pipe.zadd(index, {build.id: position})
            if is_head and build.branch is not None:
                pipe.hset(f"build:heads:{build.app}", build.branch, f"{build.commit} {build.id}")
            events.append(pipe, event_of(build))
            mark(pipe, None, build)

        # After a lost connection, the transaction starts again from what is stored.
        await self._redis.transaction(write, _build(build.id))

    async def update(self, build_id: str, change: Change) -> Build:
        """Calls `change` with the stored build, stores the result and returns it. If another write comes in between,
        `change` is called again. A build that has ended is returned unchanged. Raises NotFound, and the exceptions of
        `change`.
        """

        async def write(pipe: Pipeline) -> Build:
            stored: Any = await pipe.get(_build(build_id))
            before = _parse(build_id, stored)
            after = before if before.ended else change(before)
            pipe.multi()  # type: ignore[no-untyped-call]
            if after != before:
                _write(pipe, before, after)
            return after

        updated: Build = await self._redis.transaction(write, _build(build_id), value_from_callable=True)
        return updated

    async def build(self, build_id: str) -> Build:
        """Returns the build. Raises NotFound if there is none of this id."""
        text: Any = await self._redis.get(_build(build_id))
        return _parse(build_id, text)

    async def builds(self, app: str | None, *, limit: int, before: int | None = None) -> list[tuple[int, Build]]:
        """Returns at most `limit` pairs (position, build), newest first, of the app or, for None, of all apps.
        Positions count up in the order of queueing; with `before`, only builds at lower positions are returned.
        """
        index = f"build:of:{app}" if app else "build:all"
        top = f"({before}" if before is not None else "+inf"
        found: Any = await self._redis.zrevrangebyscore(index, top, "-inf", start=0, num=limit, withscores=True)
        texts = await self._redis.mget([_build(build_id) for build_id, _ in found]) if found else []
        return [
            (int(position), Build.model_validate_json(text))
            for (_, position), text in zip(found, texts, strict=True)
            if text is not None
        ]

    async def every(self, app: str) -> AsyncIterator[Build]:
        """Yields all builds of an app, newest first. Reads 100 at a time."""
        before: int | None = None
        while batch := await self.builds(app, limit=BATCH, before=before):
            before = batch[-1][0]
            for _, build in batch:
                yield build

    async def ids(self) -> set[str]:
        """Returns the ids of all builds, also those of removed apps."""
        return {build_id async for build_id, _ in self._redis.zscan_iter("build:all", count=1000)}

    async def position(self, build_id: str) -> int:
        """Returns the build's position, which counts up over all apps in the order of queueing. Raises NotFound if
        there is no such build.
        """
        position: Any = await self._redis.zscore("build:all", build_id)
        if position is None:
            raise NotFound(f"there is no build {build_id}")
        return int(position)

    async def note(self, build_id: str, expired: Expired) -> Build:
        """Records the times at which files of an ended build were deleted, and returns the build. Raises NotFound, and
        ValueError if the build has not ended.
        """
        noted = with_expiry(await self.build(build_id), expired)  # only this writes to a build that has ended
        await self._redis.set(_build(build_id), noted.model_dump_json(), xx=True)
        return noted

    async def drop(self, builds: Sequence[Build]) -> None:
        """Removes the records of builds that have ended. Idempotent."""
        async with self._redis.pipeline(transaction=True) as pipe:
            for build in builds:
                pipe.delete(_build(build.id))
                for index in ("build:all", f"build:of:{build.app}"):
                    pipe.zrem(index, build.id)
                pipe.hdel(STATUSES, build.id)
            await pipe.execute()

    async def unended(self) -> list[Build]:
        """Returns queued and running builds, oldest first."""
        ids: Any = await self._redis.zrange("build:unended", 0, -1)
        texts = await self._redis.mget([_build(build_id) for build_id in ids]) if ids else []
        return [Build.model_validate_json(text) for text in texts if text]

    async def heads(self, app: str) -> dict[str, Head]:
        """Returns branch → (the commit last queued for it, the id of that commit's build). The id is empty if [CI SKIP]
        in the commit's message prevented a build.
        """
        stored: Any = await self._redis.hgetall(f"build:heads:{app}")
        return {branch: (text[:40], text[41:]) for branch, text in stored.items()}

    async def skip_head(self, app: str, branch: str, commit: str) -> None:
        """Records the commit as the last one of its branch. It gets no build, because its message says [CI SKIP]."""
        await self._redis.hset(f"build:heads:{app}", branch, f"{commit} ")

    async def forget_head(self, app: str, branch: str) -> None:
        await self._redis.hdel(f"build:heads:{app}", branch)

    async def judged(self, app: str) -> set[str]:
        """Returns the ids of the last builds (one a branch of the app) that ended in success, failure or error."""
        ids: Any = await self._redis.hvals(f"build:judged:{app}")
        return set(ids)

    async def last_judged(self, app: str, branch: str) -> Build | None:
        """Returns the branch's last build that ended in success, failure or error; None if there is none. Pre-receive
        builds, and builds of commits that were not the branch's head, do not count.
        """
        build_id: Any = await self._redis.hget(f"build:judged:{app}", branch)
        return await self.build(build_id) if build_id else None


def _app(name: str) -> str:
    return f"build:app:{name}"


def _build(build_id: str) -> str:
    return f"build:build:{build_id}"


def _parse(build_id: str, text: str | None) -> Build:
    if text is None:
        raise NotFound(f"there is no build {build_id}")
    return Build.model_validate_json(text)


def _write(pipe: Pipeline, before: Build, after: Build) -> None:
    pipe.set(_build(after.id), after.model_dump_json())
    mark(pipe, before, after)
    if after.state is not before.state:
        events.append(pipe, event_of(after))
    if after.ended:
        pipe.zrem("build:unended", after.id)
    if after.state in JUDGED and (branch := after.reported_branch) is not None:
        pipe.hset(f"build:judged:{after.app}", branch, after.id)
