"""Packs the repositories with `git gc`, and protects the commits of builds from it. Each push leaves a pack;
force-pushes and refused pushes leave commits without a branch. `git gc` removes such commits once their files are two
weeks old, even if a build of one has been requested since. Therefore hidden refs are set first, to everything that refs
point to at that moment and to the commits of all known builds.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from services.build.builds.build_store import BuildStore
from services.build.git.pre_receive_objects import HIDDEN
from services.build.git.repository import GIT_ENVIRONMENT, GitFailed, Repositories, config_variables
from services.build.system.command import piped, start, terminate, wait_for_exit
from services.build.system.stop import Stop

log = logging.getLogger(__name__)

KEPT = f"{HIDDEN}/kept"
PACKS, LOOSE = 50, 6700  # the thresholds of `git gc --auto`
TIMEOUT_S = 900.0
PAUSE_S = 3600.0
STALE_S = 24 * 3600.0  # no git process writes for so long
REASON_BYTES = 2000
_CONFIG = {
    "safe.directory": "*",
    "core.hooksPath": os.devnull,
    "gc.cruftPacks": "true",  # otherwise each object that no ref reaches becomes a file
    "gc.pruneExpire": "2.weeks.ago",
    "gc.autoDetach": "false",
    "pack.threads": "1",
    "pack.windowMemory": "128m",
    "core.bigFileThreshold": "16m",
}


class RepositoryGc:
    """Packs the apps' git repositories in the background. A loop calls `step`, which may be interrupted at any point.
    `path_variable` is git's PATH.
    """

    def __init__(
        self,
        store: BuildStore,
        repositories: Repositories,
        path_variable: str,
        *,
        most_packs: int = PACKS,
        most_loose: int = LOOSE,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._store = store
        self._repositories = repositories
        self._environment = {**GIT_ENVIRONMENT, **config_variables(_CONFIG), "PATH": path_variable}
        self._most_packs = most_packs
        self._most_loose = most_loose
        self._timeout_s = timeout_s
        self._not_before: dict[str, float] = {}  # app → earliest next try (monotonic clock)
        self._stops: dict[str, Stop] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def step(self) -> None:
        """Packs one repository: of those that need it and were not tried within the last hour, the one with the most
        packs.
        """
        in_need = await asyncio.to_thread(self._in_need)
        if not in_need:
            return
        app = max(in_need, key=lambda each: in_need[each])
        self._not_before[app] = time.monotonic() + PAUSE_S
        async with self._locks[app]:
            stop = self._stops[app] = Stop()
            commits = {build.commit async for build in self._store.every(app)}
            try:
                await self._repositories.in_thread(keep, self._repositories, app, commits)
                await self._pack(app, stop)
            except (GitFailed, OSError) as error:  # other repositories are not affected
                log.warning("the repository of %s was not packed: %s", app, error)

    @contextlib.asynccontextmanager
    async def undisturbed(self, app: str) -> AsyncIterator[None]:
        """Ends a running `git gc` of the app, and prevents another one during the block."""
        if app in self._stops:
            self._stops[app].set()
        async with self._locks[app]:
            yield

    def _in_need(self) -> dict[str, int]:
        now = time.monotonic()
        apps = [app for app in self._repositories.apps() if self._not_before.get(app, 0.0) <= now]
        packs = {app: _packs(self._repositories.path(app)) for app in apps}
        return {
            app: count
            for app, count in packs.items()
            if count > self._most_packs or _loose(self._repositories.path(app)) > self._most_loose
        }

    async def _pack(self, app: str, stop: Stop) -> None:
        """Runs `git gc` on the app's repository. Ends it when `stop` is set, when cancelled, or after the time limit.
        Raises GitFailed if git fails.
        """
        path = self._repositories.path(app)
        await asyncio.to_thread(_remove_stale, path)
        printed: deque[bytes] = deque(maxlen=4)
        begun = time.monotonic()
        async with piped(printed.append) as output:
            process = start(["nice", "-n", "19", "git", "--git-dir", str(path), "gc"], path, self._environment, output)
            try:
                late = await wait_for_exit(process, begun + self._timeout_s, self._timeout_s, stop)
            finally:
                await terminate(process)
        if late:
            raise GitFailed(f"git gc {late}")
        if process.returncode:
            reason = b"".join(printed)[-REASON_BYTES:].decode(errors="replace").strip()
            raise GitFailed(reason or f"git gc ended with {process.returncode}")
        log.info("the repository of %s is packed: %.1f s", app, time.monotonic() - begun)


def keep(repositories: Repositories, app: str, commits: Collection[str]) -> None:
    """Protects commits from `git gc` by hidden refs below `refs/slipway/kept`: every commit to which another ref points
    now, and those of `commits` that exist. Removes the refs there to other commits. Blocks. Idempotent. Raises
    GitFailed.
    """
    listed = repositories.git(app, "for-each-ref", "--format=%(objectname) %(refname)").splitlines()
    refs = [(commit, ref) for commit, _, ref in (line.partition(" ") for line in listed)]
    kept = {commit for commit, ref in refs if ref.startswith(f"{KEPT}/")}
    asked = "".join(f"{commit}\n" for commit in sorted(commits))
    listed = repositories.git(app, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked).splitlines()
    there = {line.removesuffix(" commit") for line in listed if line.endswith(" commit")}
    wanted = there | {commit for commit, ref in refs if not ref.startswith(f"{KEPT}/")}
    made = [f"create {KEPT}/{commit} {commit}\n" for commit in sorted(wanted - kept)]
    gone = [f"delete {KEPT}/{commit}\n" for commit in sorted(kept - wanted)]
    repositories.git(app, "update-ref", "--stdin", stdin="".join(made + gone))


def _packs(path: Path) -> int:
    return sum(1 for _ in (path / "objects" / "pack").glob("*.pack"))


def _loose(path: Path) -> int:
    """Returns an estimate of the number of loose objects in the repository. Like git, it counts those in one of 256
    folders and multiplies.
    """
    return 256 * sum(1 for _ in (path / "objects" / "17").glob("*"))


def _remove_stale(path: Path) -> None:
    """Removes temporary pack files older than a day, which a killed git has left."""
    for each in (path / "objects" / "pack").glob("*tmp[_-]*"):
        if each.stat().st_mtime < time.time() - STALE_S:
            each.unlink(missing_ok=True)
