"""Queues builds for pushes: one for each mapped branch (a branch with an environment) whose head in the repository is
new.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from datetime import datetime
from functools import partial

from pydantic import TypeAdapter, ValidationError

from services.build.builds.app import App, new_app
from services.build.builds.build import Build
from services.build.builds.build_store import BuildStore, Head
from services.build.builds.rebuild_request import RebuildRequest
from services.build.forges.webhook import NO_COMMIT, skip_reason, skips
from services.build.git.repository import Repositories
from services.build.logs.build_log import BuildLogs
from services.build.logs.line_splitter import cleaned
from services.build.triggers.ref_watch import AppState, RefWatch
from shared.errors import Conflict, Invalid, NotFound
from shared.models import AppName, BuildState
from shared.store import RedisError, redis_words

log = logging.getLogger(__name__)

REFS_SHOWN = 20
_app_name = TypeAdapter[str](AppName)


class PushHandler:
    """Queues builds for pushes and on request. `wake` wakes the build scheduler; `url` is the service's base URL."""

    def __init__(
        self,
        store: BuildStore,
        repositories: Repositories,
        logs: BuildLogs,
        *,
        wake: Callable[[], None],
        url: str,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._repositories = repositories
        self._logs = logs
        self._wake = wake
        self._url = url
        self._now = now
        self._one_at_a_time = asyncio.Lock()
        self._failing: dict[str, str] = {}
        self._watch = RefWatch()

    async def admit(self, app: str, pushing: bool) -> None:
        """Creates the app and its repository if this is its first push. `pushing` is False for a fetch. Raises Invalid
        for a name that no app may have, NotFound for a fetch from an unknown app, and Conflict for a push to an app
        that is being removed.
        """
        try:
            _app_name.validate_python(app)
        except ValidationError as error:
            raise Invalid("app", "begins with a letter; then letters, digits and single -; at most 39") from error
        if pushing:
            with contextlib.suppress(NotFound):
                (await self._store.app(app)).check_stays()
        if await self._repositories.in_thread(self._repositories.exists, app):
            return
        if not pushing:
            raise NotFound(f"there is no app {app}; a push makes it")
        made = await self._ensure_app(app)
        await self._repositories.in_thread(partial(self._repositories.ensure, app, gated=made.gate is not None))

    async def reconcile(self) -> None:
        """Queues builds for pushes that no hook has reported, and for branches that were given an environment after
        they were pushed. A loop calls it. git runs only for apps whose branches may have changed. An app whose
        repository cannot be read does not delay the others; at the end RuntimeError is raised for it, so that the loop
        counts as failing.
        """
        failing: dict[str, str] = {}
        begun_ns = time.time_ns()
        stamps = await self._repositories.in_thread(self._repositories.ref_stamps)
        records = await self._store.app_records()
        states = {app: AppState(stamp, records.get(app)) for app, stamp in stamps.items()}
        for app in self._watch.due(states, time.monotonic()):
            try:
                await self.queue_heads(app)
            except RedisError:
                raise  # the other apps would fail too
            except Exception as error:
                failing[app] = f"{type(error).__name__}: {error}"
                if self._failing.get(app) != failing[app]:
                    log.exception("what was pushed to %s cannot be queued", app)
            else:
                refs = states[app].refs
                if refs is not None and not refs.may_hide_a_change(begun_ns):
                    self._watch.was_read(app, states[app], time.monotonic())
        self._failing = failing
        if failing:
            raise RuntimeError("; ".join(f"{app}: {reason}" for app, reason in failing.items()))

    async def queue_heads(self, name: str) -> dict[str, Head]:
        """Queues a build of each branch with an environment whose head is not the commit that was queued last, unless
        the message of the head says [CI SKIP]. Returns branch → (its head commit, the id of that commit's build), with
        an empty id if the commit is not built.
        """
        async with self._one_at_a_time:
            if not await self._repositories.in_thread(self._repositories.exists, name):
                return {}  # the app was removed, and only a push creates one
            app = await self._ensure_app(name)
            if app.removing is not None:
                return {}
            heads = await self._repositories.in_thread(self._repositories.heads, name)
            known = await self._store.heads(name)
            for gone in known.keys() - heads.keys():
                await self._store.forget_head(name, gone)
            queued: dict[str, Head] = {}
            for branch in sorted(app.branches.keys() & heads.keys()):
                commit, build_id = known.get(branch, ("", ""))
                if commit != heads[branch]:
                    build_id = await self._queue_head(app, branch, heads[branch])
                queued[branch] = heads[branch], build_id
            return queued

    async def _queue_head(self, app: App, branch: str, commit: str) -> str:
        if skips(await self._repositories.in_thread(self._repositories.message, app.name, commit)):
            await self._store.skip_head(app.name, branch, commit)
            return ""
        return (await self._add(app, branch, commit, is_head=True)).id

    async def has(self, name: str, commit: str) -> bool:
        """Returns True if the app's repository holds the commit."""
        return await self._repositories.in_thread(self._repositories.commit, name, commit) is not None

    async def held(self, name: str, commits: Collection[str]) -> set[str]:
        """Returns those of `commits` (full ids) that the app's repository contains."""
        return await self._repositories.in_thread(self._repositories.holds, name, commits) if commits else set()

    async def queue(self, name: str, *, branch: str | None, commit: str | None) -> Build:
        """Queues a build of the commit or, if `commit` is None, of the branch's head. Without a branch, the build is
        not deployed. A branch that has an environment need not exist if a commit is given. Raises NotFound for an
        unknown app, and Invalid for an unknown branch or commit.
        """
        async with self._one_at_a_time:  # a later push gets a higher number
            app = await self._store.app(name)
            head = (await self._repositories.in_thread(self._repositories.heads, name)).get(branch) if branch else None
            if head is None and (commit is None or branch not in {None, *app.branches}):
                raise Invalid("branch", f"{name} has no branch {branch}; push it first")
            found = await self._repositories.in_thread(self._repositories.commit, name, commit or head or "")
            if found is None:
                raise Invalid("commit", f"{name} has no commit {commit}; push it first")
            off_head = branch is not None and found != head
            return await self._add(app, branch, found, is_head=False, fresh=True, off_head=off_head)

    async def queue_rebuild(self, name: str, request: RebuildRequest) -> Build:
        """Queues a build that rebuilds the artifact of a release and is deployed to the release's environment; returns
        the build of this kind that is under way, if there is one. The steps are those of a branch that goes to that
        environment. Raises NotFound for an unknown app, Conflict if the app is being removed or its repository lacks
        the commit.
        """
        async with self._one_at_a_time:
            app = await self._store.app(name)
            under_way = [build for build in await self._store.unended() if build.rebuilds == request.release]
            if under_way:
                return under_way[0]
            if await self._repositories.in_thread(self._repositories.commit, name, request.commit) is None:
                raise Conflict(f"the repository of {name} has no commit {request.commit} any more; push it again")
            branches = [branch for branch, to in sorted(app.branches.items()) if to is request.environment]
            return await self._add(app, next(iter(branches), None), request.commit, is_head=False, rebuild=request)

    async def queue_pre_receive(self, app: App, branch: str, commit: str) -> Build:
        """Queues a pre-receive build: git accepts the push of the commit to `branch` once the build succeeds. The build
        is not deployed.
        """
        return await self._add(app, branch, commit, is_head=False, door=True)

    async def retry(self, build: Build) -> Build:
        """Queues a new build of the same commit and branch. The retry of a pre-receive build has no branch, since its
        commit may not be on the branch. Raises Conflict if `build` has not ended.
        """
        if not build.ended:
            raise Conflict(f"{build.id} has not ended; cancel it first, or wait")
        return await self.queue(build.app, branch=None if build.door else build.branch, commit=build.commit)

    async def report(self, app: str, updates: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """Yields text for the pusher: a line for each ref that is not built, then the logs of the builds. `updates`
        holds git's lines `old new ref`.
        """
        try:
            heads = await self.queue_heads(app)
            branches = (await self._store.app(app)).branches
        except NotFound:
            yield b"The app was removed meanwhile; nothing is built.\n"
            return
        except RedisError as error:
            yield f"{redis_words(error)}. Your push is kept and will be built; follow it at {self._url}/\n".encode()
            return
        mapped = ", ".join(f"{branch} to {environment}" for branch, environment in sorted(branches.items()))
        follow, lines = [], []
        for update in updates:
            _, commit, ref = update.split(" ", 2)
            branch = ref.removeprefix("refs/heads/")
            if commit == NO_COMMIT:
                lines.append(f"{branch} is deleted; nothing to build")
            elif branch in heads and not heads[branch][1]:
                lines.append(f"{branch}: {skip_reason(heads[branch][0])}")
            elif branch in heads:
                follow.append(heads[branch][1])
            else:
                lines.append(f"{branch} is not mapped to an environment; nothing to build (mapped: {mapped})")
        more = len(lines) - REFS_SHOWN
        if more > 0:
            lines = [*lines[:REFS_SHOWN], f"and {more} more refs, with nothing to build"]
        for line in lines:
            yield f"{cleaned(line)}\n".encode(errors="replace")  # git accepts names in any encoding
        for build_id in follow:
            async for data in self._logs.follow(build_id, partial(self._ended, build_id)):
                yield data
            if not await self._ended(build_id):
                raise ConnectionAbortedError("this service ends before the build does")  # the hook prints this reason

    async def _ended(self, build_id: str) -> bool:
        with contextlib.suppress(RedisError):
            return (await self._store.build(build_id)).ended
        return False

    async def _ensure_app(self, name: str) -> App:
        try:
            return await self._store.app(name)
        except NotFound:
            app = new_app(name, self._now())
            await self._store.put_app(app)
            return app

    async def _add(
        self,
        app: App,
        branch: str | None,
        commit: str,
        *,
        is_head: bool,
        fresh: bool = False,
        door: bool = False,
        off_head: bool = False,
        rebuild: RebuildRequest | None = None,
    ) -> Build:
        app.check_stays()
        environment = app.branches.get(branch) if branch is not None and not door else None
        number = await self._store.next_number(app.name)
        build = Build(
            id=f"{app.name}-{number}",
            app=app.name,
            number=number,
            commit=commit,
            branch=branch,
            environment=rebuild.environment if rebuild is not None else environment,
            door=door,
            rebuilds=rebuild.release if rebuild is not None else None,
            state=BuildState.QUEUED,
            fresh=fresh,
            off_head=off_head or rebuild is not None,
            created_at=self._now(),
        )
        where = f"{branch} to {build.environment}" if build.environment else "not to be deployed"
        where = f"judged before {branch} accepts it" if door else where
        where = f"{where}, in place of the artifact of {rebuild.release}, which cannot be run" if rebuild else where
        self._logs.say(build.id, f"{build.id} queued: commit {commit[:10]}, {where}; {self._url}/builds/{build.id}")
        await self._store.add(build, is_head=is_head)
        self._wake()
        return build
