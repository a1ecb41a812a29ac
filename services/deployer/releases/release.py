"""Defines a release, one build in one environment: its states, the target of a rollback, and which artifacts are
needed.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.deployer.releases.environment import EnvironmentId
from services.deployer.releases.rebuild import Rebuild
from shared.manifest import Manifest
from shared.models import Artifact, Environment, ReleaseFailure, ReleaseState, ReleaseView, ReleaseWait
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
    """Records a transition that the release has made, with reason and time."""

    state: ReleaseState
    reason: str
    at: datetime


class Release(BaseModel):
    """Holds the stored record of a release: one build in one environment."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

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
    drain_old_at: datetime | None = Field(None, alias="room_at")
    """Time from which a stop-first release drains the old instances, before it starts its own. If the release fails
    before `switched_at`, the live release is started again. None for start-first.
    """
    down_from: datetime | None = None
    """Start of the downtime of a stop-first release; None if there was none."""
    down_s: float | None = None
    """Length of the downtime in seconds; None until an instance gets visitors again."""
    raised_from: int | None = None
    """Memory limit of the environment's override, in bytes, before the release raised it to `raised_to`; None if the
    override had none.
    """
    raised_to: int | None = None
    switched_at: datetime | None = None
    """Time at which the old instances began to drain; from then on, only a rollback brings them back."""
    rollout_opened: bool = False
    abort_rollout: bool = False
    replaces_faulty: str | None = Field(None, alias="takes_back")
    """Id of the faulty release that this one was created to replace, in an automatic rollback; else None."""
    automatic_rollback: str = Field("", alias="taken_back")
    """Names the release that replaces this faulty one automatically, by id, or gives the reason why none does."""
    failure: ReleaseFailure | None = None
    clock_from: datetime | None = None
    """Time from which the wait for instances counts: when the oldest running one was added, moved forward by the time
    that has not counted since. None before the first instance.
    """
    away_since: datetime | None = None
    """Time since which a part of the platform is unavailable, so that the wait does not count; None if all are
    available.
    """
    away_s: float = 0
    """Total of the earlier times, before `away_since`, that did not count, in seconds."""
    superseded_by: str | None = None
    platform_fault: bool = False
    """True if the release failed because a part of the platform was unavailable."""
    rebuild: Rebuild | None = None
    """Rebuild of the release's artifact, from which no instance can be started; None if one can, as far as is known."""

    @property
    def environment_id(self) -> EnvironmentId:
        return EnvironmentId(self.app, self.environment)

    @property
    def is_down(self) -> bool:
        """Returns True while a stop-first release leaves the environment without an instance that gets visitors."""
        return self.down_from is not None and self.down_s is None

    @property
    def problem(self) -> str | None:
        """Returns why no instance of the live release can be started, and what is done about it; else None."""
        return self.rebuild.problem if self.rebuild is not None and self.state is S.LIVE else None


class ReleaseDetail(ReleaseView):
    """Response body for a release, with its history."""

    instances_made: int
    history: list[ReleaseTransition]


def moved(release: Release, state: ReleaseState, reason: str, now: datetime) -> Release:
    """Returns the release in its new state, with the transition in its history. Raises IllegalTransition if that
    transition is not allowed.
    """
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


def view(release: Release, now: datetime, *, unchanged: bool = False) -> ReleaseDetail:
    """Returns the release as clients see it. `unchanged` is True if a request for a release found this one live
    already.
    """
    wait = None
    if release.state is S.STARTING:
        wait = ReleaseWait(
            waited_s=waited_s(release, now),
            limit_s=release.manifest.run.ready_within,
            away_s=away_s(release, now),
            is_held=release.away_since is not None,
        )
    more = {"unchanged": unchanged, "wait": wait, "problem": release.problem}
    return ReleaseDetail.model_validate({**release.model_dump(), **more})


def waited_s(release: Release, now: datetime) -> float:
    """Returns the seconds that the release has waited for its instances, without the time in which a part of the
    platform was unavailable.
    """
    if release.clock_from is None:
        return 0.0
    return max(0.0, ((release.away_since or now) - release.clock_from).total_seconds())


def away_s(release: Release, now: datetime) -> float:
    """Returns the seconds, in all, that do not count because a part of the platform was unavailable."""
    running_s = (now - release.away_since).total_seconds() if release.away_since is not None else 0.0
    return release.away_s + running_s


def with_credit(release: Release, seconds: float, now: datetime) -> Release:
    """Returns the release with the last `seconds` taken off the time that it has waited for its instances. From `now`
    on, time counts again.
    """
    since, clock_from = now - timedelta(seconds=seconds), release.clock_from or now
    clock_from += now - max(since, clock_from)
    update = {"clock_from": clock_from, "away_since": None, "away_s": release.away_s + seconds}
    return release.model_copy(update=update)


def is_same(release: Release, commit: str, digest: str) -> bool:
    """Returns True if the release runs the artifact with `digest`, built from `commit`."""
    return (release.commit, release.artifact.digest) == (commit, digest)


def rollback_target(releases: Sequence[Release], live: Release | None) -> Release | None:
    """Returns the newest release that was live, was retired, and ran another commit or artifact than `live`; None if
    there is none. A release whose artifact had to be built again does not count. `releases` must be sorted newest
    first.
    """
    for release in releases:
        was_well = release.state is S.RETIRED and release.live_at is not None and release.rebuild is None
        if was_well and not (live and is_same(live, release.commit, release.artifact.digest)):
            return release
    return None


def kept(releases: Sequence[Release], count: int) -> list[Release]:
    """Returns the releases that retention keeps: those that have not ended, the newest `count`, and the newest `count`
    that were live (so that failed ones do not displace them). `releases` holds those of one environment, newest first.
    """
    were_live = [release.id for release in releases if release.live_at is not None][:count]
    newest = [release.id for release in releases][:count]
    return [r for r in releases if r.state not in ENDED or r.id in were_live or r.id in newest]


def expired(releases: Sequence[Release], records: int, count: int, in_use: Collection[str]) -> list[Release]:
    """Returns the releases whose records retention deletes. It keeps the newest `records`, those whose artifacts are
    kept (not ended, the newest `count`, and the newest `count` that were live), those with instances (`in_use` holds
    their ids), the target of a rollback, and the newest one with a rollout, which may be active. `releases` holds those
    of one environment, newest first.
    """
    live = next((release for release in releases if release.state is S.LIVE), None)
    with_rollout = next((release for release in releases if release.rollout_opened), None)
    others = [release for release in (rollback_target(releases, live), with_rollout) if release is not None]
    stay = {release.id for release in [*releases[:records], *kept(releases, count), *others]} | set(in_use)
    return [release for release in releases if release.id not in stay]


def needed_artifacts(releases: Sequence[Release], count: int, in_use: Collection[str]) -> list[Artifact]:
    """Returns the artifacts that retention must not delete: those of the releases that have not ended, of the newest
    `count` releases, of the newest `count` that were live, and of those that have instances (`in_use` holds their ids).
    `releases` holds those of one environment, newest first.
    """
    by_id = {release.id for release in kept(releases, count)} | set(in_use)
    return [release.artifact for release in releases if release.id in by_id]


def leading(releases: Iterable[Release]) -> Release | None:
    """Returns the release whose manifest sets the route: the starting one, else the live one, else the newest."""
    order = [S.STARTING, S.LIVE]
    ranked = sorted(releases, key=lambda r: (order.index(r.state) if r.state in order else len(order), -r.number))
    return ranked[0] if ranked else None


def unneeded_folders(by_environment: Sequence[Sequence[Release]], needed: Collection[Artifact]) -> set[str]:
    """Returns the paths, relative to the platform's data folder, of the artifact folders that an app's releases use,
    except those of artifacts in `needed`. `by_environment` holds the releases of each environment of the app.
    """
    artifacts = [release.artifact for releases in by_environment for release in releases]
    folders = {artifact.ref for artifact in artifacts if artifact.kind == "directory"}
    return folders - {artifact.ref for artifact in needed}
