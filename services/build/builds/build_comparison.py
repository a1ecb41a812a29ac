"""Compares a build with an earlier one: gates, steps, tests, findings and coverage. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import Field, computed_field

from services.build.builds.build import Build
from services.build.gates.report_record import BuildReport, FileCoverage, RecordedFinding, TestRun
from shared.models import View

LISTED = 100


class _Change(View):
    before: float | None = None
    after: float | None = None

    @computed_field(description="`after` minus `before`; null if one is missing.")  # type: ignore[prop-decorator]
    @property
    def delta(self) -> float | None:
        return None if self.before is None or self.after is None else self.after - self.before


class GateChange(_Change):
    """Holds the figures of one gate in two builds; null for a build without a figure."""

    name: str
    unit: str = ""


class StepChange(_Change):
    """Holds the durations of one step in two builds, in seconds; null for a build that did not run the step or has not
    ended it.
    """

    name: str


class CoverageChange(_Change):
    """Holds the coverage of one file in two builds, in percent; null for a build without the file."""

    file: str


class Comparison(View):
    """Compares two builds of an app by gates, steps, tests, findings and coverage. Each list of tests, findings and
    files holds at most 100 entries.
    """

    before: str = Field(description="Id of the earlier build.")
    after: str = Field(description="Id of the later build.")
    from_commit: str
    to_commit: str
    gates: list[GateChange]
    steps: list[StepChange]
    details_known: bool = Field(
        description="False if one of the two has no report, or it expired; then the lists below are empty."
    )
    newly_failing: list[str] = Field([], description="Tests that fail in the later build only, as `<step>: <id>`.")
    fixed: list[str] = Field([], description="Tests that failed in the earlier build and passed in the later one.")
    added: list[str] = Field([], description="Tests that only the later build reports.")
    gone: list[str] = Field([], description="Tests that only the earlier build reports.")
    new_findings: list[RecordedFinding] = Field([])
    gone_findings: list[RecordedFinding] = Field([])
    coverage: list[CoverageChange] = Field([])
    counts: dict[str, int] = Field({}, description="Number of entries of each list before it was cut to 100.")


def compare(before: Build, after: Build, was: BuildReport | None, now: BuildReport | None) -> Comparison:
    """Returns the comparison of two builds. `was` is the report of `before`, `now` that of `after`; None if there is no
    report.
    """
    comparison = Comparison(
        before=before.id,
        after=after.id,
        from_commit=before.commit,
        to_commit=after.commit,
        gates=_gates(before, after),
        steps=_steps(before, after),
        details_known=was is not None and now is not None,
    )
    if was is None or now is None:
        return comparison
    lists: dict[str, Sequence[Any]] = {
        **_tests(was.tests, now.tests),
        "new_findings": _beyond(now.findings, was.findings),
        "gone_findings": _beyond(was.findings, now.findings),
        "coverage": _coverage(was.coverage, now.coverage),
    }
    cut = {name: items[:LISTED] for name, items in lists.items()}
    return comparison.model_copy(update={**cut, "counts": {name: len(items) for name, items in lists.items()}})


def _gates(before: Build, after: Build) -> list[GateChange]:
    was = {gate.name: gate for gate in before.gates}
    now = {gate.name: gate for gate in after.gates}
    changes = []
    for name in dict.fromkeys([*now, *was]):
        old, new = (gates[name].figure if name in gates else None for gates in (was, now))
        if old is not None or new is not None:
            unit = (now.get(name) or was[name]).unit
            changes.append(GateChange(name=name, unit=unit, before=old, after=new))
    return changes


def _steps(before: Build, after: Build) -> list[StepChange]:
    was = {step.name: step.seconds for step in before.steps}
    now = {step.name: step.seconds for step in after.steps}
    return [StepChange(name=name, before=was.get(name), after=now.get(name)) for name in dict.fromkeys([*now, *was])]


def _tests(was: Sequence[TestRun], now: Sequence[TestRun]) -> dict[str, list[str]]:
    """Returns the names (`<step>: <id>`) of tests that differ between the earlier build (`was`) and the later one
    (`now`): those that fail only in the later one (key `newly_failing`), that failed only in the earlier one (`fixed`),
    that only the later one reports (`added`), and that only the earlier one reports (`gone`).
    """
    old, new = _outcomes(was), _outcomes(now)
    return {
        "newly_failing": sorted(test for test in new if new[test] and not old.get(test, False)),
        "fixed": sorted(test for test in new if not new[test] and old.get(test, False)),
        "added": sorted(new.keys() - old.keys()),
        "gone": sorted(old.keys() - new.keys()),
    }


def _outcomes(tests: Sequence[TestRun]) -> dict[str, bool]:
    """Returns name (`<step>: <id>`) of a test → True if one of the test's cases failed."""
    failed: dict[str, bool] = {}
    for test in tests:
        name = f"{test.step}: {test.id}"
        failed[name] = failed.get(name, False) or test.outcome == "failed"
    return failed


def _beyond(these: Sequence[RecordedFinding], those: Sequence[RecordedFinding]) -> list[RecordedFinding]:
    """Returns the findings of `these` that `those` lack; of a finding that occurs more often in `these`, the additional
    occurrences. Two findings are equal if they have the same rule, file and message.
    """
    left = Counter((each.rule, each.file, each.message) for each in those)
    beyond = []
    for each in these:
        key = (each.rule, each.file, each.message)
        if left[key] > 0:
            left[key] -= 1
        else:
            beyond.append(each)
    return beyond


def _coverage(was: Sequence[FileCoverage], now: Sequence[FileCoverage]) -> list[CoverageChange]:
    """Returns the files whose coverage differs between the earlier build (`was`) and the later one (`now`), the largest
    difference first. Files that only one of the builds has come last.
    """
    old, new = ({each.file: each.percent for each in files} for files in (was, now))
    changes = [
        CoverageChange(file=file, before=old.get(file), after=new.get(file))
        for file in sorted(old.keys() | new.keys())
        if old.get(file) != new.get(file)
    ]
    return sorted(changes, key=lambda change: -abs(change.delta or 0))
