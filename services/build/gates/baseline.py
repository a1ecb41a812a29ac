"""Compares a build with its baseline, the last build of the branch that passed. Pure. Failed builds are no baseline: a
new finding would fail one build and then pass in the next as an old one."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from services.build.reports.metric import Finding, Measure, Offender
from shared.models import View

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


def fingerprints(findings: Sequence[Finding]) -> dict[str, int]:
    return dict(Counter(finding.fingerprint for finding in findings))


def new_findings(findings: Sequence[Finding], measures: Mapping[str, Measure], baseline: Baseline | None) -> Measure:
    """Returns, as a measure, the number of findings that the baseline lacks or has fewer times; of all findings without
    a baseline. If the figure of a gate that reports findings is missing in `measures`, this figure is missing too.
    """
    for gate in FINDING_GATES:
        if gate in measures and measures[gate].figure is None:
            return Measure(None, f"{gate}: {measures[gate].reason}")
    left = Counter(baseline.findings if baseline else {})
    fresh = []
    for finding in findings:
        if left[finding.fingerprint] > 0:
            left[finding.fingerprint] -= 1
        else:
            fresh.append(finding.offender)
    against = f"against {baseline.build}" if baseline is not None else NO_BASELINE
    return Measure(len(fresh), against, tuple(fresh))


def changed_coverage(
    hits: Mapping[str, Mapping[int, int]], changed: Mapping[str, Sequence[range]], against: str
) -> Measure:
    """Returns, as a measure, the percentage of changed coverable lines that ran; 100 if no changed line is coverable.
    `hits` is file → line → number of runs, `changed` file → changed lines; `against` names the baseline in messages.
    The figure is None if `hits` is empty."""
    if not hits:
        return Measure(None, "the coverage report names no file of the commit")
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
