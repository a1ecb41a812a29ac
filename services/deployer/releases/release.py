"""One build in one environment: its states, what may be rolled back to, and which artifacts are still needed."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from services.deployer.releases.environment import EnvironmentId
from shared.manifest import Manifest
from shared.models import Artifact, Environment, ReleaseFailure, ReleaseState, ReleaseView
from shared.state import Table, transition

S = ReleaseState

RELEASE_TRANSITIONS: Table[ReleaseState] = {
    S.PENDING: frozenset({S.STARTING, S.FAILED, S.RETIRED, S.ROLLED_BACK}),
    S.STARTING: frozenset({S.LIVE, S.FAILED, S.RETIRED, S.ROLLED_BACK}),
    S.LIVE: frozenset({S.RETIRED, S.ROLLED_BACK}),
    S.RETIRED: frozenset(),
    S.FAILED: frozenset(),
    S.ROLLED_BACK: frozenset(),
}
ENDED = frozenset({S.RETIRED, S.FAILED, S.ROLLED_BACK})


class ReleaseTransition(BaseModel):
    """One transition of the past."""

    state: ReleaseState
    reason: str
    at: datetime


class Release(BaseModel):
    """`switched_at`: from here on the old instances are taken out, there is no way back but a rollback. `takes_back`:
    the faulty release that this one replaces by itself; `taken_back`: the release that replaces this faulty one, or
    why there is none. Stop-first: from `room_at` on the old instances are taken out before any of this release is
    started; there is a way back. `down_from`: when those that served left; `down_s`: how long nobody took their place.
    `raised_to`: the environment's memory, bytes, to which it had that raised before it was live, from `raised_from`
    (None: the manifest's).
    """

    id: str
    number: int
    app: str
    environment: Environment
    build: str
    commit: str
    artifact: Artifact
    manifest: Manifest
    state: ReleaseState
    reason: str
    history: list[ReleaseTransition]
    created_at: datetime
    live_at: datetime | None = None
    ended_at: datetime | None = None
    previous: str | None = None
    instances_made: int = 0
    strategy: Literal["start-first", "stop-first"] = "start-first"
    room_at: datetime | None = None
    down_from: datetime | None = None
    down_s: float | None = None
    raised_from: int | None = None
    raised_to: int | None = None
    switched_at: datetime | None = None
    rollout_opened: bool = False
    abort_rollout: bool = False
    takes_back: str | None = None
    taken_back: str = ""
    failure: ReleaseFailure | None = None

    @property
    def place(self) -> EnvironmentId:
        return EnvironmentId(self.app, self.environment)

    @property
    def is_down(self) -> bool:
        """Whether it had those that served leave, and nobody has been seen in their place yet."""
        return self.down_from is not None and self.down_s is None


class ReleaseDetail(ReleaseView):
    """A release with its past."""

    instances_made: int
    history: list[ReleaseTransition]


def moved(release: Release, state: ReleaseState, reason: str, now: datetime) -> Release:
    """The release in its new state; raises IllegalTransition."""
    transition(RELEASE_TRANSITIONS, release.state, state)
    changes: dict[str, Any] = {
        "state": state,
        "reason": reason,
        "history": [*release.history, ReleaseTransition(state=state, reason=reason, at=now)],
    }
    if state is S.LIVE:
        changes["live_at"] = now
    if state in ENDED:
        changes["ended_at"] = now
    return release.model_copy(update=changes)


def view(release: Release, *, unchanged: bool = False) -> ReleaseDetail:
    """The release as clients see it."""
    return ReleaseDetail.model_validate({**release.model_dump(), "unchanged": unchanged})


def is_same(release: Release, commit: str, digest: str) -> bool:
    """Whether the release runs that very artifact; the commit counts, as apps are told theirs."""
    return (release.commit, release.artifact.digest) == (commit, digest)


def rollback_target(releases: Sequence[Release], live: Release | None) -> Release | None:
    """The newest release that was live, did not have to be rolled back, and ran something else than `live`.
    `releases`: newest first.
    """
    for release in releases:
        was_well = release.state is S.RETIRED and release.live_at is not None
        if was_well and not (live and is_same(live, release.commit, release.artifact.digest)):
            return release
    return None


def kept(releases: Sequence[Release], count: int) -> list[Release]:
    """Of one environment, newest first: those that have not ended, the newest `count`, and the newest `count` that were
    live (a row of failed releases must not push out what can be gone back to).
    """
    were_live = [release.id for release in releases if release.live_at is not None][:count]
    newest = [release.id for release in releases][:count]
    return [r for r in releases if r.state not in ENDED or r.id in were_live or r.id in newest]


def needed_artifacts(releases: Sequence[Release], count: int, in_use: Collection[str]) -> list[Artifact]:
    """Of the releases of one environment, newest first, that are kept or have instances (`in_use`)."""
    by_id = {release.id for release in kept(releases, count)} | set(in_use)
    return [release.artifact for release in releases if release.id in by_id]


def unneeded_folders(by_environment: Sequence[Sequence[Release]], needed: Collection[Artifact]) -> set[str]:
    """Directories of an app's releases that none of its environments needs."""
    artifacts = [release.artifact for releases in by_environment for release in releases]
    known = {artifact.ref for artifact in artifacts if artifact.kind == "directory"}
    return known - {artifact.ref for artifact in needed}
