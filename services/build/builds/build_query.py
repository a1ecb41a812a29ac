"""Searches the history of builds by app, branch, state, environment and commit."""

from collections.abc import Collection
from dataclasses import dataclass

from services.build.builds.build import JUDGED, Build
from services.build.builds.build_store import BuildStore
from shared.models import BuildState, Environment

BATCH = 100
SCANNED = 1000


@dataclass(frozen=True)
class Filter:
    """Selects builds by their fields. A field that is None or empty matches every build."""

    app: str | None = None
    branch: str | None = None
    states: Collection[BuildState] = ()
    environment: Environment | None = None
    commit: str | None = None
    """Beginning of the commit's id."""

    @property
    def narrows(self) -> bool:
        """Returns True if a field other than `app` restricts the search. The store has an index for `app` alone."""
        return bool(self.branch or self.states or self.environment or self.commit)

    def holds(self, build: Build) -> bool:
        return (
            self.app in (None, build.app)
            and self.branch in (None, build.branch)
            and (not self.states or build.state in self.states)
            and self.environment in (None, build.environment)
            and build.commit.startswith(self.commit or "")
        )


@dataclass(frozen=True)
class SearchResult:
    """Holds the builds on one page of a search, and the position of the next page."""

    builds: list[Build]
    following: int | None
    """Position to pass as `before` for the next page; None on the last page."""
    scanned: int
    """Number of builds that were read. The search stops at a limit, even if it has found fewer builds than fit on the
    page.
    """


async def find(
    store: BuildStore,
    wanted: Filter,
    *,
    limit: int,
    before: int | None = None,
    batch_size: int = BATCH,
    scanned_at_most: int = SCANNED,
) -> SearchResult:
    """Returns the newest `limit` builds that match `wanted`. With `before`, returns only builds at a lower position;
    positions count up in the order of queueing. It stops after reading about `scanned_at_most` builds, so it may return
    fewer matches than there are. Raises RedisError if Redis does not answer.
    """
    found: list[tuple[int, Build]] = []
    scanned = 0
    while scanned < scanned_at_most:
        batch = await store.builds(wanted.app, limit=batch_size if wanted.narrows else limit + 1, before=before)
        if not batch:
            return SearchResult([build for _, build in found], None, scanned)
        for position, build in batch:
            scanned += 1
            if wanted.holds(build):
                if len(found) == limit:  # there is one more: the next page begins with it
                    return SearchResult([build for _, build in found], found[-1][0], scanned)
                found.append((position, build))
        before = batch[-1][0]
    return SearchResult([build for _, build in found], before, scanned)


async def judged_before(store: BuildStore, build: Build) -> Build | None:
    """Returns the last build of the same app and branch before `build` that ended in success, failure or error. Returns
    None if there is none, or none among the builds that one search reads.
    """
    wanted = Filter(app=build.app, branch=build.branch, states=JUDGED)
    if build.branch is None:
        return None
    position = await store.position(build.id)
    found = await find(store, wanted, limit=1, before=position)
    return found.builds[0] if found.builds else None
