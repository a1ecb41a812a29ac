"""Compares a build with its baseline, the last build of the branch that passed. Pure. A failed build never becomes the
baseline, since a new finding would fail that build and then pass in the next one as an old finding.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from pydantic import Field

from services.build.reports.metric import Finding, Measure, Offender
from shared.models import View

_OTHERS = {"node_modules", "site-packages", "dist-packages", ".venv"}  # folders with the code of others
_HUNK = re.compile(r"^@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
NO_BASELINE = (
    "no build of the branch has passed yet, so all are new; a build that passes without this gate makes them known"
)
FINDING_GATES = ("findings", "complexity", "function_length", "secrets")


class Baseline(View):
    """Records a build that passed its gates, so that later builds can be compared with it."""

    build: str
    commit: str
    findings: dict[str, int] = Field({})
    """Fingerprint of a finding → number of its occurrences in the build."""
    exclude: list[str] = Field([])
    """Patterns of the files that the build's commit declares as vendored or generated. In later builds, the gates
    `complexity`, `function_length` and `comment_ratio` leave these files out.
    """
    known: dict[str, list[float]] | None = Field(None)
    """Fingerprint → figures (such as a function's length) of the known findings: gates do not count them, because the
    app had them when a person turned on its setting `baseline`. None if that setting was off.
    """


def first_known(ours: Baseline) -> Baseline | None:
    """Returns a baseline for a build that has none, since no build before it has passed: a copy of `ours`, the record
    that the build itself leaves for later builds, with only its known findings (those that gates do not count). Returns
    None if `ours` has no known findings.
    """
    if not ours.known:
        return None
    return ours.model_copy(update={"findings": {name: len(figures) for name, figures in ours.known.items()}})


def fingerprints(findings: Sequence[Finding]) -> dict[str, int]:
    return dict(Counter(finding.fingerprint for finding in findings))


def new_findings(findings: Sequence[Finding], measures: Mapping[str, Measure], baseline: Baseline | None) -> Measure:
    """Returns, as a measure, the new findings: those of `findings` that the baseline lacks or has fewer times; without
    a baseline, all of them. A finding without rule and message always counts as new, because it cannot be distinguished
    from others. `measures` holds gate → measure of the build; if one of the gates that report findings has no figure
    there, the result has none either.
    """
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
    """Returns, as a measure, the percentage of the coverable changed lines that ran in tests; 100 if no changed line is
    coverable. `hits` holds file → coverable line → number of runs; `changed` holds file → changed lines; `against` says
    in messages since when they changed. `strangers` are names in the coverage report that are no file of the commit.
    There is no figure if `hits` is empty, or if one of `strangers` may mean a changed file that `hits` lacks, because
    it is then unknown which lines of that file are coverable.
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
    """Returns True if a report's `name` may mean `file`, only seen from another folder: one of the two paths ends with
    the other. Returns False for a file of an installed package.
    """
    named, tracked = PurePosixPath(name).parts, PurePosixPath(file).parts
    if _OTHERS & set(named) or name.startswith("/usr/"):
        return False
    common = min(len(named), len(tracked))
    return named[-common:] == tracked[-common:]


def changed_lines(diff: str) -> dict[str, list[range]]:
    """Returns file → added or changed lines, numbered as in the newer commit. `diff` is the output of `git diff -U0`.
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
    """Yields the lines of `text` one by one, because a list of all lines could take a gigabyte."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _path(text: str) -> str | None:
    """Returns the path in a `+++` line of a diff, unquoted and without `b/`; None for a deleted file."""
    if text == "/dev/null":
        return None
    if text.startswith('"'):
        text = text[1:-1].encode("ascii").decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
    return text.removeprefix("b/")
