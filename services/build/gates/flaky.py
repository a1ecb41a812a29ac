"""Detects flaky tests (tests that both fail and pass on one commit) by earlier builds and by a second run of the step.
A flaky test goes into quarantine: for 14 days verdicts list its failures and do not count them. A test is identified by
its id and its step. Pure.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import Field

from services.build.gates.gate import FLAKY_DEFAULTS
from services.build.reports.junit import CaseCount
from services.build.reports.metric import Offender
from shared.manifest import Flaky
from shared.models import View

QUARANTINE = timedelta(days=14)
REMEMBERED = timedelta(days=90)  # a test counts as known to be flaky for so long after its quarantine
RUNS_KEPT = 40
FAILED_KEPT = 200
PASSED_KEPT = 5000
FAILED_LATELY = 50
NOT_SO_BEFORE = ", but not in an earlier build of this commit"


class Quarantine(View):
    """Records that a test of an app is flaky. Before `until`, gates list its failures but do not count them."""

    test: str
    step: str | None = Field(None, description="Step in which it is quarantined; null: every step.")
    until: datetime
    reason: str
    since: datetime
    flips: int = Field(0, description="Number of times that it failed and passed on one commit.")

    def holds(self, step: str, now: datetime) -> bool:
        return now < self.until and self.step in (None, step)


class PastRun(View):
    """Records which tests of a step failed and which passed in one build. Skipped tests are in neither list."""

    build: str
    commit: str
    step: str
    at: datetime
    failed: list[str]
    """Ids of tests that failed at least once, at most 200."""
    passed: list[str]
    """Ids of tests that passed at least once, at most 5000, each as a hash of 12 hex digits."""


class FlakyTest(View):
    """Records a flaky test that a build's verdict lists: its failure does not count, or the build put it into
    quarantine. The quarantine ends at `until`.
    """

    test: str
    step: str
    until: datetime
    what: str = Field(description="Its outcomes in this build: `failed, then passed`.")

    def __str__(self) -> str:
        return f"{self.test}, {self.what}, quarantined until {self.until:%Y-%m-%d}"


@dataclass(frozen=True)
class Suite:
    """Holds the verdict on one step's tests: which failures count, and which do not, because their tests are flaky."""

    failures: int
    """Number of failures that count for the gate `test_failures`."""
    offenders: tuple[Offender, ...] = ()
    """Places in the repository of the failures that count."""
    excused: frozenset[str] = frozenset()
    """Ids of tests that failed, and whose failures do not count because the tests are flaky."""
    flipped: frozenset[str] = frozenset()
    """Ids of tests that both failed and passed on this commit, and so go into quarantine or stay there longer."""
    flaky: tuple[FlakyTest, ...] = ()
    """Tests in `excused` or `flipped`, as the build's verdict lists them."""
    too_many: int = 0
    """Number of tests outside a quarantine that both failed and passed on this commit, if there are too many of them
    (more than the limit `at_most`) to be called flaky; else 0.
    """

    @property
    def remark(self) -> str:
        """Returns a remark about flaky tests, to be appended to the gate's reason; empty if none influenced the
        verdict.
        """
        remarks = []
        if self.flaky:
            tests = "1 flaky test" if len(self.flaky) == 1 else f"{len(self.flaky)} flaky tests"
            listed = "; ".join(str(each) for each in self.flaky)
            remarks.append(f"{'beside' if self.failures else 'passed with'} {tests}: {listed}")
        if self.too_many:
            remarks.append(f"{self.too_many} tests failed and passed on this commit: too many to be taken as flaky")
        return "; ".join(remarks)


def limits(app: Flaky, asked: Flaky) -> Flaky:
    """Returns the limits for flaky tests in one build: each from the manifest (`asked`), else from the app's settings,
    else the platform's default.
    """
    given = app.model_dump(exclude_none=True) | asked.model_dump(exclude_none=True)
    return FLAKY_DEFAULTS.model_copy(update=given)


def is_worth_a_rerun(cases: CaseCount, step: str, known: Mapping[str, Quarantine], limits: Flaky) -> bool:
    """Returns True if the step should run a second time, because that could excuse its failures: `limits` allow it, all
    failures belong to tests with an id, and at most `limits.at_most` of these tests are missing from `known`, the tests
    that are or were in quarantine.
    """
    unknown = [test for test in cases.failed if test not in known or known[test].step not in (None, step)]
    return bool(limits.reruns and cases.failures and not cases.unnamed and len(unknown) <= (limits.at_most or 0))


def weigh(
    runs: Sequence[CaseCount],
    earlier: Sequence[PastRun],
    step: str,
    known: Mapping[str, Quarantine],
    at_most: int,
    now: datetime,
) -> Suite:
    """Returns the verdict on the tests of a step. A failure does not count (is excused) if its test is in quarantine,
    since it was found flaky lately, or passed in the other run of this build. `runs` holds the one or two runs of the
    step in this build; `earlier` those of the same step and commit in other builds; `known` is test → quarantine. If
    more than `at_most` tests outside a quarantine both failed and passed, the cause is probably something else, and
    none of these is excused or put into quarantine.
    """
    failed = frozenset[str]().union(*(run.failed for run in runs))
    passed = frozenset[str]().union(*(run.passed for run in runs))
    held = {test for test in failed | passed if test in known and known[test].holds(step, now)}
    flips = (failed & passed) | _flips_of_history(failed, passed, earlier)
    too_many = len(flips - held) if len(flips - held) > at_most else 0
    flipped = flips & held if too_many else flips
    excused = failed & (held | (flipped & passed))
    counted = failed - excused
    failures = sum(max(run.failed.get(test, 0) for run in runs) for test in counted) + max(run.unnamed for run in runs)
    offenders = [_offender(test, runs) for test in sorted(counted)]
    if unnamed := next((run for run in runs if run.unnamed and "" in run.offenders), None):
        offenders.append(unnamed.offenders[""])
    influential = sorted(flipped | excused)
    flaky = [
        FlakyTest(
            test=test,
            step=step,
            until=_until(known.get(test), test in flipped, now),
            what=_what(test, runs) + ("" if test not in flipped or test in failed & passed else NOT_SO_BEFORE),
        )
        for test in influential
    ]
    return Suite(failures, tuple(offenders), excused, frozenset(flipped), tuple(flaky), too_many)


def quarantined(
    flipped: Collection[str], known: Mapping[str, Quarantine], build: str, step: str, now: datetime
) -> list[Quarantine]:
    """Returns the records by which the tests in `flipped` are in quarantine, so that their failures do not count: they
    both failed and passed on one commit, last in `build`. `known` holds test → its record so far. A quarantine lasts 14
    days from now, or until the end in the record so far if that is later. If that has not ended and a person has set it
    for all steps, the new one is for all steps too and keeps its reason.
    """
    records = []
    for test in sorted(flipped):
        before = known.get(test)
        reason = f"failed and passed on one commit, last in {build}"
        record = Quarantine(test=test, step=step, until=now + QUARANTINE, reason=reason, since=now, flips=1)
        if before is not None:
            update = {"until": _until(before, True, now), "since": before.since, "flips": before.flips + 1}
            if before.step is None and before.holds(step, now):
                update |= {"step": None, "reason": before.reason}
            record = record.model_copy(update=update)
        records.append(record)
    return records


def forgotten(known: Mapping[str, Quarantine], now: datetime) -> list[str]:
    """Returns the tests in `known` whose quarantine ended over 90 days ago, so that their records can be removed."""
    return [test for test, record in known.items() if record.until + REMEMBERED < now]


def past_run(runs: Sequence[CaseCount], build: str, commit: str, step: str, now: datetime) -> PastRun:
    failed = sorted(frozenset[str]().union(*(run.failed for run in runs)))[:FAILED_KEPT]
    passed = sorted(mark(test) for test in frozenset[str]().union(*(run.passed for run in runs)))[:PASSED_KEPT]
    return PastRun(build=build, commit=commit, step=step, at=now, failed=failed, passed=passed)


def merged(earlier: PastRun, run: PastRun) -> PastRun:
    """Returns one record of both runs of a step, for a build that was interrupted and ran its steps again."""
    failed = sorted({*earlier.failed, *run.failed})[:FAILED_KEPT]
    passed = sorted({*earlier.passed, *run.passed})[:PASSED_KEPT]
    return run.model_copy(update={"failed": failed, "passed": passed})


def failed_lately(past: Sequence[PastRun], step: str) -> list[str]:
    """Returns the ids of the step's tests that failed in the runs `past` (newest first): at most 50, those that failed
    last first.
    """
    ids = dict.fromkeys(test for run in past if run.step == step for test in run.failed)
    return list(ids)[:FAILED_LATELY]


def mark(test: str) -> str:
    """Returns a short hash of a test's id, which takes less space in long lists."""
    return hashlib.sha256(test.encode()).hexdigest()[:12]


def _flips_of_history(failed: frozenset[str], passed: frozenset[str], earlier: Sequence[PastRun]) -> frozenset[str]:
    """Returns the tests that only failed in the earlier builds of this commit and pass now, or only passed and fail
    now.
    """
    before_failed = frozenset(test for run in earlier for test in run.failed)
    before_passed = frozenset(each for run in earlier for each in run.passed)
    now_failing = {test for test in failed if test not in before_failed and mark(test) in before_passed}
    now_passing = {test for test in passed & before_failed if mark(test) not in before_passed}
    return frozenset(now_failing | now_passing)


def _until(before: Quarantine | None, flipped: bool, now: datetime) -> datetime:
    if before is None:
        return now + QUARANTINE
    return max(before.until, now + QUARANTINE) if flipped else before.until


def _what(test: str, runs: Sequence[CaseCount]) -> str:
    outcomes = ["failed" if test in run.failed else "passed" if test in run.passed else "was not run" for run in runs]
    if len(outcomes) == 2 and outcomes[0] == outcomes[1]:
        return f"{outcomes[0]} in both runs"
    return ", then ".join(outcomes) if len(outcomes) == 2 else f"{outcomes[0]} here"


def _offender(test: str, runs: Sequence[CaseCount]) -> Offender:
    return next(run.offenders[test] for run in reversed(runs) if test in run.offenders)
