"""Decides which logs and reports, artifacts and records of ended builds expire. Pure."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.build.builds.build import Build


@dataclass(frozen=True)
class RetentionPolicy:
    """Holds how long logs, reports, artifacts and records of ended builds are kept, in days or as a number of
    builds.
    """

    days: int
    """Number of days for which logs and reports are kept."""
    logs: int
    """Number of newest builds of each branch that keep logs and reports even after `days`, as long as the app
    exists.
    """
    artifacts: int
    """Number of an app's newest builds with an artifact, on any branch, that keep it at any age."""
    records: int
    """Number of an app's newest builds, on any branch, that keep their record; older builds also lose their logs."""


@dataclass(frozen=True)
class ExpiredItems:
    """Lists the builds whose logs and reports, artifact, or record are to be deleted."""

    logs: list[Build]
    artifacts: list[Build]
    records: list[Build]


def due(
    builds: Sequence[Build], policy: RetentionPolicy, judged: Collection[str], now: datetime, *, deleted: bool
) -> ExpiredItems:
    """Returns the builds whose logs, artifact or record are to be deleted. `builds` holds all builds of one app, newest
    first; `judged` holds the id of each branch's last build that ended in success, failure or error, whose record
    stays; `deleted` is True if the app no longer exists. An artifact stays as long as another build shares it that
    keeps it or has not ended. A record stays until the build's artifact is deleted.
    """
    logs, records = [], []
    of_branch: Counter[str | None] = Counter()
    for place, build in enumerate(builds):
        of_branch[build.branch] += 1
        if not build.ended:
            continue
        old = (build.finished_at or build.created_at) < now - timedelta(days=policy.days)
        recent = of_branch[build.branch] <= policy.logs and not deleted
        bare = build.artifact is None or build.expired.artifact is not None
        if place >= policy.records and bare and build.id not in judged:
            records.append(build)
        if build.expired.log is None and (place >= policy.records or (old and not recent)):
            logs.append(build)
    return ExpiredItems(logs, _artifacts(builds, policy), records)


def _artifacts(builds: Sequence[Build], policy: RetentionPolicy) -> list[Build]:
    """Returns the builds whose artifact is a folder that is to be deleted. (The deployer deletes images.)"""
    holding = [build for build in builds if build.artifact is not None and build.artifact.kind == "directory"]
    present = [build for build in holding if build.expired.artifact is None]
    spare = [build for build in [each for each in present if each.ended][policy.artifacts :]]
    ids = {build.id for build in spare}
    kept = {build.artifact.ref for build in present if build.artifact is not None and build.id not in ids}
    return [build for build in spare if build.artifact is not None and build.artifact.ref not in kept]
