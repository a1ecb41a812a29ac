"""What is left on the executor's side of builds that have ended, and of apps that were deleted: it is removed."""

from services.build.builds.build_store import BuildStore
from services.build.executors.executor import Executor, Leavings


class ExecutorGc:
    """`step` is a loop's. It looks at what is there first, and then at what it is for: a build that begins meanwhile is
    not among it.
    """

    def __init__(self, store: BuildStore, executor: Executor) -> None:
        self._store = store
        self._executor = executor

    async def step(self) -> None:
        found = await self._executor.leavings()
        unended = {build.id for build in await self._store.unended()}
        apps = {app.name for app in await self._store.apps()}
        await self._executor.remove(Leavings(found.builds - unended, found.apps - apps))
