"""What of ended builds is no longer kept: logs and reports, artifacts, records. Pure."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.build.builds.build import Build


@dataclass(frozen=True)
class RetentionPolicy:
    """`days`: how long logs and reports are kept, and longer for the last `logs` builds of each branch of an app that
    there is. `artifacts`: of the last builds that passed, of each app; `records`: of each app."""

    days: int
    logs: int
    artifacts: int
    records: int


@dataclass(frozen=True)
class ExpiredItems:
    """Builds whose log and reports, whose artifact, which themselves are to go."""

    logs: list[Build]
    artifacts: list[Build]
    records: list[Build]


def due(
    builds: Sequence[Build], rule: RetentionPolicy, judged: Collection[str], now: datetime, *, deleted: bool
) -> ExpiredItems:
    """`builds`: all of one app, newest first; `judged`: ids of its branches' last judged ones; `deleted`: the app is
    gone. An artifact that a build shares which is kept, or has not ended, is not due. A record goes last, once nothing
    of it is left."""
    logs, records = [], []
    of_branch: Counter[str | None] = Counter()
    for place, build in enumerate(builds):
        of_branch[build.branch] += 1
        if not build.ended:
            continue
        old = (build.finished_at or build.created_at) < now - timedelta(days=rule.days)
        recent = of_branch[build.branch] <= rule.logs and not deleted
        bare = build.artifact is None or build.expired.artifact is not None
        if place >= rule.records and bare and build.id not in judged:
            records.append(build)
        if build.expired.log is None and (place >= rule.records or (old and not recent)):
            logs.append(build)
    return ExpiredItems(logs, _artifacts(builds, rule), records)


def _artifacts(builds: Sequence[Build], rule: RetentionPolicy) -> list[Build]:
    """Images are the deployer's to remove, which asks the engine what uses them."""
    holding = [build for build in builds if build.artifact is not None and build.artifact.kind == "directory"]
    present = [build for build in holding if build.expired.artifact is None]
    spare = [build for build in [each for each in present if each.ended][rule.artifacts :]]
    ids = {build.id for build in spare}
    kept = {build.artifact.ref for build in present if build.artifact is not None and build.id not in ids}
    return [build for build in spare if build.artifact is not None and build.artifact.ref not in kept]
