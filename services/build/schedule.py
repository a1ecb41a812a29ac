"""Which builds start, and which make way: the newest of a branch wins. Pure; the workers carry it out."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.build.build import Build, Stop
from shared.models import BuildState


@dataclass(frozen=True)
class Start:
    """Run it; or take it up again, if the service died while it ran."""

    build: str


@dataclass(frozen=True)
class End:
    """End a build that no process works on, without running it."""

    build: str
    stop: Stop


@dataclass(frozen=True)
class Halt:
    """End the processes of a running build; `stop` is None if the intent is stored already."""

    build: str
    stop: Stop | None


Action = Start | End | Halt


def plan(unended: Sequence[Build], working: Collection[str], concurrency: int) -> list[Action]:
    """`unended`: queued and running builds, oldest first. `working`: ids of those that this process works on.

    A newer build of the same app and branch supersedes older ones, but one in its deploy stage is waited for; those at
    the door are a group of their own. A build that waits for its deploy does not count against `concurrency`.
    """
    actions: list[Action] = []
    newest = {build.group: build for build in unended if build.branch is not None}
    blocked: dict[tuple[str, str | None, bool], bool] = defaultdict(bool)
    busy = sum(1 for build in unended if build.id in working and not build.deploying)
    for build in unended:
        group = build.group
        stop = build.stop
        newer = newest.get(group, build)
        if stop is None and newer.id != build.id and not build.deploying:
            stop = Stop(state=BuildState.SUPERSEDED, reason=f"superseded by {newer.id}, a newer push of {build.branch}")
        if stop is not None and build.state is BuildState.QUEUED:
            actions.append(End(build.id, stop))
            continue
        if build.id in working:
            if stop is not None:
                actions.append(Halt(build.id, None if build.stop else stop))
        elif build.state is BuildState.RUNNING:  # left by a service that died; it starts whatever the limit says
            actions.append(Start(build.id))
            busy += not build.deploying
        elif busy < concurrency and not (build.branch is not None and blocked[group]):
            actions.append(Start(build.id))
            busy += 1
        if build.state is BuildState.RUNNING or build.id in working:
            blocked[group] = True
    return actions
