"""Orders the steps of a manifest by their dependencies (a DAG). Pure."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice

from services.build.manifest.manifest_faults import Fault
from services.build.system.path_glob import PathGlob, is_glob
from shared.manifest import Stage, Step

STAGES = (Stage.BUILD, Stage.TEST, Stage.ANALYSIS)
FAULTS_SHOWN = 20


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Returns the steps sorted by stage; steps of one stage keep the manifest's order."""
    return [step for stage in STAGES for step in steps if step.stage is stage]


def selected(steps: Sequence[Step], branch: str | None, environment: str | None) -> list[Step]:
    """Returns the steps that run in a build of this branch and environment: their condition `when` matches both."""
    return [step for step in steps if not reason_to_skip(step, branch, environment)]


def reason_to_skip(step: Step, branch: str | None, environment: str | None) -> str:
    """Returns the reason why the step's `when` excludes it from a build of this branch and environment; empty if the
    step runs.
    """
    when = step.when
    if when.branch and not any(_matches(branch or "", glob) for glob in when.branch):
        return f"runs on {', '.join(when.branch)} only, this is {branch or 'of no branch'}"
    if when.environment and environment not in when.environment:
        return f"runs for {', '.join(when.environment)} only, this goes to {environment or 'no environment'}"
    return ""


def waits_for(steps: Sequence[Step]) -> dict[str, frozenset[str]]:
    """Returns step name → names of all steps of `steps` that must end before the step may begin. Ignores dependencies
    on other steps.
    """
    known: dict[str, frozenset[str]] = {}
    waits: dict[str, frozenset[str]] = {}
    for stage in STAGES:
        own = [step for step in steps if step.stage is stage]
        for place, step in enumerate(own):
            named = [each.name for each in own[:place]] if step.depends_on is None else step.depends_on
            waits[step.name] = frozenset(named) & {each.name for each in own}
        before = frozenset(known)
        for step in own:
            known[step.name] = before | _reached(step.name, waits)
    return known


def concurrent_pairs(steps: Sequence[Step]) -> list[tuple[Step, Step]]:
    """Returns the pairs of steps that may run at the same time."""
    waits = waits_for(steps)
    return [
        (one, other)
        for one, other in combinations(steps, 2)
        if one.name not in waits[other.name] and other.name not in waits[one.name]
    ]


def faults(steps: Sequence[Step]) -> list[Fault]:
    """Returns the faults in the steps' dependencies: up to 20 bad entries of `depends_on` or, if there are none, the
    cycles, and the report paths that parallel steps share.
    """
    named = (fault for place, step in enumerate(steps) for fault in _of_dependencies(place, step, steps))
    return list(islice(named, FAULTS_SHOWN)) or [*_cycles(steps), *_shared_reports(steps)]


def service_faults(steps: Sequence[Step], *, containers: bool) -> list[Fault]:
    """Returns a fault for each test service that lacks what it needs: an image if steps run in containers, else a
    command.
    """
    found = []
    for place, step in enumerate(steps):
        for position, service in enumerate(step.services):
            where = f"steps.{place}.services.{position}"
            if containers and service.image is None:
                found.append(
                    Fault(where, f"{service.name} has no image, and services run in containers here; name one")
                )
            if not containers and service.command is None:
                detail = f"{service.name} needs containers, and this platform runs steps as processes"
                found.append(Fault(where, f"{detail}; give a command that listens on $PORT, or SLIPWAY_DRIVER=docker"))
    return found


def _of_dependencies(place: int, step: Step, steps: Sequence[Step]) -> Iterator[Fault]:
    stages = {each.name: each.stage for each in steps}
    for position, name in enumerate(step.depends_on or ()):
        where = f"steps.{place}.depends_on.{position}"
        if name == step.name:
            yield Fault(where, f"{name} would wait for itself; remove it")
        elif name not in stages:
            near = difflib.get_close_matches(name, stages.keys() - {step.name}, n=1)
            yield Fault(where, f"no step is named {name}; " + (f"did you mean {near[0]}?" if near else "remove it"))
        elif STAGES.index(stages[name]) > STAGES.index(step.stage):
            detail = f"{name} is of the stage {stages[name]}, which comes after {step.stage}"
            yield Fault(where, f"{detail}; move one of the two to the other's stage")


def _cycles(steps: Sequence[Step]) -> Iterator[Fault]:
    waits = waits_for(steps)
    caught = [step.name for step in steps if step.name in waits[step.name]]
    for place, step in enumerate(steps):
        if step.name in caught:
            circle = ", ".join(name for name in caught if name in waits[step.name])
            field = f"steps.{place}" if step.depends_on is None else f"steps.{place}.depends_on"
            yield Fault(field, f"{circle} wait for each other; take one out of a depends_on, or give `depends_on: []`")
            return


def _shared_reports(steps: Sequence[Step]) -> Iterator[Fault]:
    for one, other in concurrent_pairs(steps):
        written = {path for paths in one.reports.by_kind().values() for path in paths}
        for kind, path in ((kind, path) for kind, paths in other.reports.by_kind().items() for path in paths):
            if any(_meet(path, own) for own in written):
                detail = f"{one.name} writes {path} too, and may run at the same time"
                remedy = f"give each its own path, or put {one.name} into depends_on"
                yield Fault(f"steps.{steps.index(other)}.reports.{kind}", f"{detail}; {remedy}")


def _meet(one: str, other: str) -> bool:
    """Returns True if the two paths or globs are the same, or if one matches the other."""
    pairs = ((one, other), (other, one))
    return one == other or any(is_glob(glob) and PathGlob(glob).matches(path.split("/")) for glob, path in pairs)


def _reached(name: str, waits: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Returns the names of all steps on which the step `name` depends, directly or through others. `waits` holds step →
    its direct dependencies. A step that is in a cycle depends on itself.
    """
    found: set[str] = set()
    left = set(waits[name])
    while left:
        each = left.pop()
        found.add(each)
        left |= waits[each] - found
    return frozenset(found)


def _matches(branch: str, glob: str) -> bool:
    """Returns True if the glob matches the branch: `*` and `?` match no `/`, `**` matches any text. It tracks all
    possible positions at once, so that no glob is slow.
    """
    places = {0}
    for part in re.split(r"(\*\*|\*|\?)", glob):
        if part == "**":
            places = set(range(min(places), len(branch) + 1))
        elif part == "*":
            ends = {at: branch.find("/", at) for at in places}
            places = {to for at, end in ends.items() for to in range(at, (end if end >= 0 else len(branch)) + 1)}
        elif part == "?":
            places = {at + 1 for at in places if branch[at : at + 1] not in ("", "/")}
        else:
            places = {at + len(part) for at in places if branch.startswith(part, at)}
        if not places:
            return False
    return len(branch) in places
