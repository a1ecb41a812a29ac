"""Plans which builds start and which end. A build of a branch's newest commit (its head) supersedes the other builds of
the branch, and apps take turns. Pure.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from services.build.builds.build import Build, Group, StopRequest
from shared.models import BuildState

REBUILDS_AT_ONCE = 2  # after a prune of images there are as many as apps, and people push meanwhile


@dataclass(frozen=True)
class Start:
    """Requests to start a queued build, or to resume one that was running when the service ended."""

    build: str


@dataclass(frozen=True)
class End:
    """Requests to end a queued build that was stopped before it started."""

    build: str
    stop: StopRequest


@dataclass(frozen=True)
class Halt:
    """Requests to stop a running build. `stop` is the request that must be stored first; None if it is already
    stored.
    """

    build: str
    stop: StopRequest | None


Action = Start | End | Halt


def plan(
    unended: Sequence[Build], working: Collection[str], concurrency: int, served: Mapping[str, int] | None = None
) -> list[Action]:
    """Returns the actions that are due now. `unended` holds queued and running builds, oldest first; `working` holds
    the ids of those that this process runs. `served` holds app → a number that grows with each start, so that the app
    with the lowest number has waited longest. Of the builds of one branch (more exactly: with the same `Build.group`),
    the newest one of the branch's head supersedes all others, so that these end. A build that is being deployed is not
    superseded here; if the newer build passes too, the deployer decides. If none of them is of the head, they run one
    after the other. A build that is being deployed does not count for `concurrency`. While a build of a commit runs
    steps, another build of the same commit waits in order to reuse its result, unless it is `fresh` (requested by
    hand). Builds that rebuild the lost artifact of a live release come after all others, two at a time.
    """
    actions: list[Action] = []
    newest = {build.group: build for build in unended if build.branch is not None and not build.off_head}
    blocked: set[Group] = set()
    in_progress: set[tuple[str, str]] = set()
    waiting: list[Build] = []
    busy = Counter(build.app for build in unended if build.id in working and not build.deploying)
    for build in unended:
        group = build.group
        stop = build.stop
        head = newest.get(group, build)
        if stop is None and head.id != build.id and not build.deploying and not (build.off_head and head.stop):
            stop = StopRequest(state=BuildState.SUPERSEDED, reason=_superseded(build, head))
        if stop is not None and build.state is BuildState.QUEUED and build.id not in working:
            actions.append(End(build.id, stop))
            continue
        if build.id in working:
            if stop is not None:
                actions.append(Halt(build.id, None if build.stop else stop))
        elif build.state is BuildState.RUNNING:  # left by a service that was killed; it starts even beyond the limit
            actions.append(Start(build.id))
            busy[build.app] += not build.deploying
        elif build.branch is None or group not in blocked:
            waiting.append(build)
            blocked.add(group)
        if (build.state is BuildState.RUNNING or build.id in working) and not build.deploying:
            blocked.add(group)
            in_progress.add((build.app, build.commit))
    others = [build for build in waiting if build.rebuilds is None]
    started = list(_in_turn(others, busy, in_progress, concurrency, served or {}))
    in_progress |= {(build.app, build.commit) for build in started}
    running = sum(_is_rebuilding(build, working) for build in unended)
    limit = min(concurrency, busy.total() + REBUILDS_AT_ONCE - running)
    rebuilds = [build for build in waiting if build.rebuilds is not None]
    started += _in_turn(rebuilds, busy, in_progress, limit, served or {})
    return actions + [Start(build.id) for build in started]


def _is_rebuilding(build: Build, working: Collection[str]) -> bool:
    runs = build.state is BuildState.RUNNING or build.id in working
    return build.rebuilds is not None and runs and not build.deploying


def _superseded(build: Build, head: Build) -> str:
    """Returns the reason to store for the build when `head`, a build of its branch's head, supersedes it."""
    if head.number < build.number:
        return f"superseded by {head.id}, which builds the head of {build.branch}; retry {build.id} after it"
    return f"superseded by {head.id}, a newer {'build' if head.fresh else 'push'} of {build.branch}"


def waits(unended: Sequence[Build], working: Collection[str], concurrency: int) -> dict[str, str]:
    """Returns build id → the reason, in words for people, why the build does not run yet, for each queued build.
    `unended` holds queued and running builds, oldest first; `working` holds the ids of those that this process runs, of
    which at most `concurrency` may run steps at a time.
    """
    judging = [each for each in unended if (each.id in working or each.state is BuildState.RUNNING)]
    judging = [each for each in judging if not each.deploying]
    queued = [each for each in unended if each.state is BuildState.QUEUED and each.id not in working and not each.stop]
    reasons = {}
    for build in queued:
        older = next((each.id for each in judging if build.branch is not None and each.group == build.group), None)
        same = next((each.id for each in judging if (each.app, each.commit) == (build.app, build.commit)), None)
        if older is not None:
            reasons[build.id] = f"waits until {older} has stopped, an older build of {build.branch}"
        elif same is not None and not build.fresh:
            reasons[build.id] = f"waits for the verdict of {same} on the same commit"
        else:
            others = f"; {len(queued) - 1} more wait" if len(queued) > 1 else ""
            ids, most = ", ".join(each.id for each in judging), f"at most {concurrency} at a time"
            if build.rebuilds is not None:
                most += f", {REBUILDS_AT_ONCE} of them to replace artifacts that are gone"
            reasons[build.id] = f"waits for its turn: {ids} run, and {most}{others}"
    return reasons


def _in_turn(
    waiting: Sequence[Build],
    busy: Counter[str],
    in_progress: set[tuple[str, str]],
    concurrency: int,
    served: Mapping[str, int],
) -> Iterator[Build]:
    """Yields those of the builds `waiting` that start now. `busy` holds app → number of its running builds;
    `in_progress` holds (app, commit) of builds that run steps; `served` holds app → a number that is lowest for the app
    that has waited longest. The next one is always from the app with the fewest running builds; among several, from the
    app that has waited longest; within an app, it is the oldest.
    """
    turns, in_progress = dict(served), set(in_progress)
    left = [build for build in waiting if build.fresh or (build.app, build.commit) not in in_progress]
    while left and busy.total() < concurrency:
        build = min(left, key=lambda each: (busy[each.app], turns.get(each.app, 0)))  # of equals, the oldest
        in_progress.add((build.app, build.commit))
        left = [
            each for each in left if each.id != build.id and (each.fresh or (each.app, each.commit) not in in_progress)
        ]
        busy[build.app] += 1
        turns[build.app] = max(turns.values(), default=0) + 1
        yield build
