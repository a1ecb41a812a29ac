"""Compares a build with its baseline, the last build of the branch that passed. Pure. Failed builds are no baseline: a
new finding would fail one build and then pass in the next as an old one."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from pydantic import Field

from services.build.reports.metric import Finding, Measure, Offender
from shared.models import View

_OTHERS = {"node_modules", "site-packages", "dist-packages", ".venv"}  # folders of what others wrote
_HUNK = re.compile(r"^@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
NO_BASELINE = (
    "no build of the branch has passed yet, so all are new; one that passes without this gate accepts what is there"
)
FINDING_GATES = ("findings", "complexity", "function_length", "secrets")


class Baseline(View):
    """Records a build that passed, for comparison with later builds."""

    build: str
    commit: str
    findings: dict[str, int] = Field({})
    """Number of occurrences by the finding's fingerprint."""
    exclude: list[str] = Field([])
    """Patterns of the files that the build's commit declares as vendored or generated."""
    known: dict[str, list[float]] | None = Field(None)
    """Figures of the findings that do not count, by fingerprint; None if the app had not set `baseline`."""


def first_known(ours: Baseline) -> Baseline | None:
    """Returns what the findings of a first build are compared with: those that become known by it; None if `ours`, the
    baseline that it will be, knows none.
    """
    if not ours.known:
        return None
    return ours.model_copy(update={"findings": {name: len(figures) for name, figures in ours.known.items()}})


def fingerprints(findings: Sequence[Finding]) -> dict[str, int]:
    return dict(Counter(finding.fingerprint for finding in findings))


def new_findings(findings: Sequence[Finding], measures: Mapping[str, Measure], baseline: Baseline | None) -> Measure:
    """Returns, as a measure, the findings that the baseline lacks or has fewer times, and those without rule and text,
    which cannot be told from others; all of them without a baseline.
    If one of the gates that report findings has no figure in `measures`, the result has none either."""
    for gate in FINDING_GATES:
        if gate in measures and measures[gate].figure is None:
            return Measure(None, f"{gate}: {measures[gate].reason}")
    left = Counter(baseline.findings if baseline else {})
    fresh = []
    for finding in findings:
        if left[finding.fingerprint] > 0 and not finding.is_nameless:
            left[finding.fingerprint] -= 1
        else:
            fresh.append(finding.offender)
    against = f"against {baseline.build}" if baseline is not None else NO_BASELINE
    return Measure(len(fresh), against, tuple(fresh))


def changed_coverage(
    hits: Mapping[str, Mapping[int, int]],
    changed: Mapping[str, Sequence[range]],
    against: str,
    strangers: Collection[str] = (),
) -> Measure:
    """Returns, as a measure, the percentage of changed coverable lines that ran; 100 if no changed line is coverable.
    `hits` is file → line → number of runs, `changed` file → changed lines; `against` names the baseline in messages.
    The figure is None if `hits` is empty, or if one of `strangers`, the names in the report that are no file of the
    commit, may be a changed file that the report does not name: then its lines cannot be told from uncoverable ones.
    """
    if not hits:
        return Measure(None, "the coverage report names no file of the commit" + _first_of(strangers))
    for file in sorted(changed.keys() - hits.keys()):
        if name := next((name for name in sorted(strangers) if _may_be(name, file)), None):
            remedy = "let the tool write paths from the repository's root, or declare their folder as a source"
            return Measure(None, f"{file} changed, and the coverage report names {name}, which is no file; {remedy}")
    lines, covered, gaps = 0, 0, []
    for file, ranges in changed.items():
        known = hits.get(file, {})
        coverable = [line for lines_of in ranges for line in lines_of if line in known]
        missed = [line for line in coverable if known[line] == 0]
        lines += len(coverable)
        covered += len(coverable) - len(missed)
        if missed:
            message = f"{len(missed)} of {len(coverable)} changed lines not covered"
            gaps.append((len(missed), Offender(file=file, line=missed[0], message=message)))
    if not lines:
        return Measure(100, f"no line that changed {against} is coverable")
    worst = sorted(gaps, key=lambda gap: -gap[0])
    return Measure(100 * covered / lines, f"of {lines} lines changed {against}", tuple(place for _, place in worst))


def _first_of(names: Collection[str]) -> str:
    return f": {min(names)} is none" if names else ""


def _may_be(name: str, file: str) -> bool:
    """Returns True if a report's `name` may mean `file` by another base folder: one is the end of the other."""
    named, tracked = PurePosixPath(name).parts, PurePosixPath(file).parts
    if _OTHERS & set(named) or name.startswith("/usr/"):
        return False
    common = min(len(named), len(tracked))
    return named[-common:] == tracked[-common:]


def changed_lines(diff: str) -> dict[str, list[range]]:
    """Returns file → added or changed lines, as the newer commit numbers them. `diff` is the output of `git diff -U0`.
    Raises ValueError if it cannot be parsed.
    """
    changed: dict[str, list[range]] = {}
    file = None
    lines = _lines(diff)
    for line in lines:
        if line.startswith("+++ "):
            file = _path(line[4:].removesuffix("\t"))
        elif match := _HUNK.match(line):
            removed, first, added = (int(part) if part is not None else 1 for part in match.groups())
            for _ in range(removed + added):
                if next(lines)[:1] == "\\":
                    next(lines)
            if file is not None and added:
                changed.setdefault(file, []).append(range(first, first + added))
    return changed


def _lines(text: str) -> Iterator[str]:
    """Yields the lines of `text` one by one, because a list of all could take a gigabyte."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _path(text: str) -> str | None:
    """Returns the path from a diff's `+++` line, unquoted and without `b/`; None for a deleted file."""
    if text == "/dev/null":
        return None
    if text.startswith('"'):
        text = text[1:-1].encode("ascii").decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
    return text.removeprefix("b/")
