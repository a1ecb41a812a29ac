"""Finds an earlier build that passed with the same cache key, and stores builds that pass."""

from functools import partial

from services.build.builds.app import App
from services.build.builds.build import Build
from services.build.builds.build_recorder import BuildRecorder
from services.build.cache.cache_key import CacheEntry, judgement_key, may_be_reused
from services.build.cache.cache_store import CacheStore
from services.build.executors.executor import BRANCH, Executor
from services.build.gates.baseline import Baseline
from services.build.gates.history_store import HistoryStore
from services.build.gates.known_findings import KnownFindings
from services.build.git.repository import Repositories
from shared.errors import NotFound
from shared.manifest import Manifest
from shared.models import Environment


async def compared_with(recorder: BuildRecorder, history: HistoryStore, app: App) -> Baseline | None:
    """Returns the baseline (the record of an earlier build that passed) with which the recorded build is compared: that
    of its branch or, if the branch has none, that of a branch that is mapped to production. Returns None if there is
    none.
    """
    production = [branch for branch, to in sorted(app.branches.items()) if to is Environment.PRODUCTION]
    for branch in [recorder.build.branch, *production]:
        if branch is not None:
            found = await recorder.patiently(partial(history.baseline, app.name, branch))
            if found is not None:
                return found
    return None


async def known_before(
    recorder: BuildRecorder, history: HistoryStore, app: App, baseline: Baseline | None
) -> KnownFindings | None:
    """Returns the known findings, which do not count in the verdict of a build that is compared with `baseline`: those
    in `baseline` or, if it has none, those stored for the app. Returns None if the app's setting `baseline` is off, so
    that all findings count.
    """
    if not app.baseline:
        return None
    if baseline is not None and baseline.known is not None:
        return KnownFindings(baseline.known)
    return KnownFindings(await recorder.patiently(lambda: history.known(app.name)))


class BuildCache:
    """Finds an earlier build whose result this build (that of `recorder`) may reuse, and records under this build's
    cache key that it passed.
    """

    def __init__(
        self,
        recorder: BuildRecorder,
        store: CacheStore,
        history: HistoryStore,
        executor: Executor,
        repositories: Repositories,
    ) -> None:
        self._recorder = recorder
        self._store = store
        self._history = history
        self._executor = executor
        self._repositories = repositories

    async def key(self, app: App, manifest: Manifest) -> str:
        baseline = await compared_with(self._recorder, self._history, app)
        build, images = self._recorder.build, self._executor.builds_images
        asks_branch = await self._repositories.in_thread(self._repositories.mentions, app.name, build.tree, BRANCH)
        known = await known_before(self._recorder, self._history, app, baseline)
        return judgement_key(build, app, manifest, baseline, known, images=images, asks_branch=asks_branch)

    async def find(self) -> Build | None:
        """Returns an earlier build that passed with this build's cache key and whose artifact still exists; None if
        there is none.
        """
        recorder, entry = self._recorder, await self._entry()
        if entry is None:
            return None
        try:
            earlier = await recorder.patiently(lambda: recorder.store.build(entry.build))
        except NotFound:
            return None
        if not may_be_reused(earlier, recorder.now()) or earlier.artifact is None:
            return None
        return earlier if await self._executor.has(earlier.artifact) else None

    async def remember(self, baseline: Baseline) -> None:
        """Stores this build's id and its `baseline`, with which later builds are compared, under this build's cache
        key. Other builds can reuse the result only once this build's record says `passed`.
        """
        build = self._recorder.build
        if (key := build.judgement) is not None:
            entry = CacheEntry(build=build.id, baseline=baseline)
            await self._recorder.patiently(lambda: self._store.put(build.app, key, entry))

    async def forget(self) -> None:
        """Removes the entry under this build's cache key. The caller does this because the build has failed, so that no
        later build reuses an earlier success with that key.
        """
        build = self._recorder.build
        if (key := build.judgement) is not None:
            await self._recorder.patiently(lambda: self._store.drop(build.app, key))

    async def pass_on(self) -> None:
        """Makes the baseline in this build's cache entry the one with which later builds of its branch are compared,
        unless the build's commit was not the branch's head. The caller does this once the build has passed.
        """
        build, entry = self._recorder.build, await self._entry()
        if build.branch is not None and not build.off_head and entry is not None:
            put = partial(self._history.put_baseline, build.app, build.branch, entry.baseline)
            await self._recorder.patiently(put)

    async def _entry(self) -> CacheEntry | None:
        build = self._recorder.build
        if (key := build.judgement) is None:
            return None
        return await self._recorder.patiently(lambda: self._store.get(build.app, key))
