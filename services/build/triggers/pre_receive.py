"""Accepts a push to a gated branch (a branch of production, if the app has `gate: push`) only after a build of the
pushed commit has passed (decision 14).
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable

from services.build.builds.app import App
from services.build.builds.build import Build, StopRequest
from services.build.builds.build_store import BuildStore
from services.build.forges.webhook import NO_COMMIT
from services.build.git.pre_receive_objects import PreReceiveObjects
from services.build.git.push_socket import IncomingPush, PushRefused
from services.build.git.repository import GitFailed
from services.build.logs.build_log import BuildLogs
from services.build.queue.workers import with_stop
from services.build.triggers.push_handler import PushHandler
from shared.errors import NotFound
from shared.models import BuildState
from shared.store import RedisError, redis_words

S = BuildState
BRANCHES = "refs/heads/"
ABANDONED = StopRequest(
    state=S.CANCELLED, reason="nobody waits for it any more: its pusher has disconnected, or the service was restarted"
)
NOTHING_ACCEPTED = "Nothing of this push was accepted"
REMEDIES = {
    S.FAILURE: "mend that and push again",
    S.ERROR: "it is the platform's fault, not the commit's: push again",
    S.CANCELLED: "push again if you want it judged",
    S.SUPERSEDED: "the newer push goes first; push again if yours is still wanted",
}


class PreReceiveGate:
    """Judges pushes to gated branches by builds (pre-receive builds) before git accepts them. `is_connected` returns
    True while the client of a push is connected. `on_abandoned` is called when the last push that waits for a build
    ends. `step` cancels each build for which no push waits any more, such as one that a killed service has left.
    """

    def __init__(
        self,
        store: BuildStore,
        push_handler: PushHandler,
        objects: PreReceiveObjects,
        logs: BuildLogs,
        *,
        wake: Callable[[], None],
        on_abandoned: Callable[[], None],
        is_connected: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._push_handler = push_handler
        self._objects = objects
        self._logs = logs
        self._wake = wake
        self._is_connected = is_connected
        self._on_abandoned = on_abandoned
        self._waiting: Counter[str] = Counter()  # build → number of pushes that wait for it
        self._builds: dict[str, Build] = {}  # the builds in `_waiting`, as they were queued
        self._kept: set[tuple[str, str]] = set()  # (app, commit) of refs that protect pushed objects
        self._begun = False
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def judge(self, push: IncomingPush) -> AsyncGenerator[bytes, None]:
        """Builds the pushed commits and yields text for the pusher. Ends without an error if the push is accepted, else
        raises PushRefused.
        """
        try:
            app = await self._store.app(push.app)
        except RedisError as error:
            raise _unjudged(error) from None
        except NotFound as error:
            raise PushRefused(f"{error}. {NOTHING_ACCEPTED}") from None
        wanted = _gated_updates(app, push)
        entered: list[Build] = []
        try:
            for branch, commit in wanted:
                entered.append(await self._join(app, branch, commit, push.objects))
            for build in entered:
                async for data in self._passing(build, push, others=len(push.updates) > len(wanted)):
                    yield data
        except RedisError as error:
            raise _unjudged(error) from None
        finally:
            for build in entered:
                self._leave(build.id)

    async def step(self) -> None:
        """Cancels the pre-receive builds for which no push waits any more. Once these have ended, removes the refs by
        which their commits were stored.
        """
        if not self._begun:
            self._kept |= await self._objects.in_thread(self._objects.kept)
            self._begun = True
        gated = [build for build in await self._store.unended() if build.door]
        for build in gated:
            async with self._locks[build.app]:
                if build.id not in self._waiting:
                    await self._store.update(build.id, lambda stored: with_stop(stored, ABANDONED))
                    self._wake()
        judged = {(build.app, build.commit) for build in gated}
        for app, commit in self._kept - judged:
            async with self._locks[app]:
                if (app, commit) not in {(build.app, build.commit) for build in self._builds.values()}:
                    await self._objects.in_thread(self._objects.remove, app, commit)
                    self._kept.discard((app, commit))

    async def _join(self, app: App, branch: str, commit: str, objects: str) -> Build:
        """Returns the build of the commit whose result decides about the push: a build for which another push already
        waits, or else a new one. Raises PushRefused.
        """
        async with self._locks[app.name]:
            build = await self._waited_for(app, branch, commit)
            if build is None:
                try:
                    await self._objects.in_thread(self._objects.add, app.name, commit, objects)
                except GitFailed as error:
                    raise PushRefused(f"{branch}: the commit cannot be judged: {error}. {NOTHING_ACCEPTED}") from None
                self._kept.add((app.name, commit))
                build = await self._push_handler.queue_pre_receive(app, branch, commit)
            self._waiting[build.id] += 1
            self._builds[build.id] = build
            return build

    async def _waited_for(self, app: App, branch: str, commit: str) -> Build | None:
        for build in list(self._builds.values()):
            if (build.app, build.branch, build.commit) == (app.name, branch, commit):
                now = await self._store.build(build.id)
                if now.stop is None and not now.ended:
                    return build
        return None

    def _leave(self, build_id: str) -> None:
        self._waiting[build_id] -= 1
        if not self._waiting[build_id]:
            del self._waiting[build_id], self._builds[build_id]
            self._on_abandoned()

    async def _passing(self, build: Build, push: IncomingPush, *, others: bool) -> AsyncGenerator[bytes, None]:
        """Yields the build's log. Ends without an error if the build succeeds, else raises PushRefused. `others` is
        True if the push also has updates that need no build.
        """
        now = build

        async def ended() -> bool:
            nonlocal now
            with contextlib.suppress(RedisError):
                now = await self._store.build(build.id)
            return now.ended

        async for data in self._logs.follow(build.id, ended):
            if not self._is_connected(push.id):
                raise PushRefused(f"its pusher has disconnected. {NOTHING_ACCEPTED}")
            yield data
        if not now.ended:
            raise ConnectionAbortedError("this service ends before the build does")  # the hook prints this reason
        if now.state is not S.SUCCESS:
            also = "; branches that need no verdict can be pushed by themselves" if others else ""
            remedy = REMEDIES.get(now.state, "push again")
            raise PushRefused(f"The push to {build.branch} is refused. {NOTHING_ACCEPTED}: {remedy}{also}")


def _unjudged(error: RedisError) -> PushRefused:
    return PushRefused(f"{redis_words(error)}, so nothing can be judged. {NOTHING_ACCEPTED}; try again")


def _gated_updates(app: App, push: IncomingPush) -> list[tuple[str, str]]:
    """Returns (branch, commit) of each update in the push that needs a successful build first. The deletion of a branch
    needs none.
    """
    wanted = []
    for update in push.updates:
        _, commit, ref = update.split(" ", 2)
        branch = ref.removeprefix(BRANCHES)
        if ref.startswith(BRANCHES) and commit != NO_COMMIT and app.is_gated(branch):
            wanted.append((branch, commit))
    return wanted
