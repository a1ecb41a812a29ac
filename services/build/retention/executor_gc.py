"""Removes objects of ended builds and removed apps from the executor, such as containers, volumes and caches."""

from services.build.builds.build_store import BuildStore
from services.build.executors.executor import Executor, ExecutorObjects


class ExecutorGc:
    """Removes the objects (such as containers and volumes) that the executor still has of ended builds and removed
    apps. A loop calls `step`, which lists the objects before it reads the builds, so that a build which starts in
    between loses nothing.
    """

    def __init__(self, store: BuildStore, executor: Executor) -> None:
        self._store = store
        self._executor = executor

    async def step(self) -> None:
        found = await self._executor.objects()
        unended = {build.id for build in await self._store.unended()}
        apps = {app.name for app in await self._store.apps()}
        await self._executor.remove(ExecutorObjects(found.builds - unended, found.apps - apps))
