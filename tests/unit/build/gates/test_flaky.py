from datetime import timedelta
from typing import Any

import pytest

from services.build.gates.flaky import (
    QUARANTINE,
    PastRun,
    Quarantine,
    Suite,
    failed_lately,
    forgotten,
    is_worth_a_rerun,
    limits,
    mark,
    past_run,
    quarantined,
    weigh,
)
from services.build.reports.junit import CaseCount
from services.build.reports.metric import Offender
from shared.manifest import Flaky
from tests.support.build.builds import AT

DAY = timedelta(days=1)
LIMITS = Flaky(reruns=1, at_most=2)


def cases(failed: str = "", passed: str = "", unnamed: int = 0) -> CaseCount:
    """Each letter is a test."""
    offenders = {test: Offender(message=test) for test in failed}
    return CaseCount(
        len(failed + passed), len(failed) + unnamed, dict.fromkeys(failed, 1), frozenset(passed), offenders
    )


def record(test: str, until: timedelta = DAY, **changes: Any) -> Quarantine:
    fields = {"test": test, "step": "test", "until": AT + until, "reason": "", "since": AT - DAY, "flips": 1}
    return Quarantine(**{**fields, **changes})


def past(failed: str = "", passed: str = "", step: str = "test") -> PastRun:
    return PastRun(
        build="notes-1", commit="c", step=step, at=AT, failed=list(failed), passed=[mark(test) for test in passed]
    )


def weighed(*runs: CaseCount, earlier: tuple[PastRun, ...] = (), known: tuple[Quarantine, ...] = ()) -> Suite:
    return weigh(runs, earlier, "test", {each.test: each for each in known}, 2, AT)


def summary(suite: Suite) -> tuple[int, str, str]:
    """Failures that count, tests that are excused, tests that flipped."""
    return suite.failures, "".join(sorted(suite.excused)), "".join(sorted(suite.flipped))


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([cases("a", "b")], (1, "", "")),
        ([cases("a", "b"), cases("a", "b")], (1, "", "")),
        ([cases("a", "b"), cases("", "ab")], (0, "a", "a")),
        ([cases("a", "b"), cases("", "b")], (1, "", "")),  # not run again: nothing proves that it is flaky
        ([cases("a", "b"), cases("b", "a")], (0, "ab", "ab")),
        ([cases("ab", ""), cases("a", "b")], (1, "b", "b")),
        ([cases("abc", ""), cases("", "abc")], (3, "", "")),  # more than two: something else is wrong
        ([cases("a", "b"), cases("", "ab", unnamed=1)], (1, "a", "a")),
    ],
)
def test_a_test_that_fails_and_passes_in_one_build_is_flaky(
    runs: list[CaseCount], expected: tuple[int, str, str]
) -> None:
    assert summary(weighed(*runs)) == expected


@pytest.mark.parametrize(
    ("known", "runs", "expected"),
    [
        (record("a"), [cases("a", "b"), cases("a", "b")], (0, "a", "")),
        (record("a", -DAY), [cases("a", "b"), cases("a", "b")], (1, "", "")),
        (record("a", step="other"), [cases("a", "b"), cases("a", "b")], (1, "", "")),
        (record("a", step=None), [cases("a", "b")], (0, "a", "")),
        (record("a"), [cases("ab", ""), cases("ab", "")], (1, "a", "")),
        (record("a"), [cases("abc", ""), cases("", "abc")], (0, "abc", "abc")),  # one of three was known
    ],
)
def test_a_quarantine_excuses_its_own_test_in_its_own_step_while_it_lasts(
    known: Quarantine, runs: list[CaseCount], expected: tuple[int, str, str]
) -> None:
    assert summary(weighed(*runs, known=(known,))) == expected


@pytest.mark.parametrize(
    ("earlier", "run", "expected"),
    [
        (past("a", "b"), cases("", "ab"), (0, "", "a")),
        (past("", "ab"), cases("a", "b"), (1, "", "a")),  # flaky from now on, but it has not passed in this build
        (past("a", "ab"), cases("", "ab"), (0, "", "")),  # was counted then
        (past("a", "b"), cases("a", "b"), (1, "", "")),
        (past("", "b"), cases("a", "b"), (1, "", "")),
        (past("abc", ""), cases("", "abc"), (0, "", "")),
    ],
)
def test_an_earlier_build_of_the_commit_tells_too(
    earlier: PastRun, run: CaseCount, expected: tuple[int, str, str]
) -> None:
    assert summary(weighed(run, earlier=(earlier,))) == expected


def test_the_verdict_names_every_flaky_test_that_touched_it() -> None:
    passed = weighed(cases("a", "b"), cases("", "ab"))
    assert passed.remark == "passed with 1 flaky test: a, failed, then passed, quarantined until 2026-01-15"
    both = weighed(cases("ab", ""), cases("ab", ""), known=(record("a"),))
    assert both.remark == "beside 1 flaky test: a, failed in both runs, quarantined until 2026-01-02"
    assert [str(each) for each in both.offenders] == ["b"]
    retried = weighed(cases("", "a"), earlier=(past("a"),))
    assert "a, passed here, but not in an earlier build of this commit, quarantined" in retried.remark
    assert weighed(cases("abc"), cases("", "abc")).remark.startswith(
        "3 tests failed and passed on this commit: too many"
    )
    assert weighed(cases("", "ab")).remark == ""


@pytest.mark.parametrize(
    ("run", "known", "worth"),
    [
        (cases("", "a"), (), False),
        (cases("ab"), (), True),
        (cases("abc"), (), False),
        (cases("abc"), (record("a"),), True),
        (cases("abc"), (record("a", -30 * DAY),), True),
        (cases("abc"), (record("a", step="other"),), False),
        (cases("a", unnamed=1), (), False),
    ],
)
def test_few_failing_tests_or_known_ones_are_worth_another_run(
    run: CaseCount, known: tuple[Quarantine, ...], worth: bool
) -> None:
    by_test = {each.test: each for each in known}
    assert is_worth_a_rerun(run, "test", by_test, LIMITS) is worth
    assert is_worth_a_rerun(run, "test", by_test, Flaky(reruns=0, at_most=9)) is False


def test_a_quarantine_is_renewed_when_its_test_flips_again_and_never_shortened() -> None:
    [fresh] = quarantined({"a"}, {}, "notes-7", "test", AT)
    assert (fresh.until, fresh.flips, fresh.step) == (AT + QUARANTINE, 1, "test")
    [renewed] = quarantined({"a"}, {"a": record("a")}, "notes-7", "test", AT)
    assert (renewed.until, renewed.flips, renewed.since) == (AT + QUARANTINE, 2, AT - DAY)
    persons = record("a", 60 * DAY, step=None, reason="a person's")
    [kept] = quarantined({"a"}, {"a": persons}, "notes-7", "test", AT)
    assert (kept.until, kept.step, kept.reason) == (AT + 60 * DAY, None, "a person's")


def test_a_test_is_known_as_flaky_for_90_days_after_its_quarantine() -> None:
    assert forgotten({"a": record("a", -89 * DAY), "b": record("b", -91 * DAY)}, AT) == ["b"]


def test_what_is_kept_of_a_run_is_bounded_and_both_outcomes_count() -> None:
    kept = past_run([cases("a", "b"), cases("b", "a")], "notes-1", "c", "test", AT)
    assert (kept.failed, kept.passed) == (["a", "b"], sorted([mark("a"), mark("b")]))
    many = {str(number): 1 for number in range(9000)}
    kept = past_run([CaseCount(9000, 9000, many), CaseCount(9000, 0, {}, frozenset(many))], "notes-1", "c", "test", AT)
    assert (len(kept.failed), len(kept.passed)) == (200, 5000)


def test_tests_that_failed_lately_come_newest_first_each_once() -> None:
    runs = [past("b"), past("x", step="other"), past("ab"), past("", "c")]
    assert failed_lately(runs, "test") == ["b", "a"]


def test_the_manifest_goes_before_the_app_and_the_app_before_the_platform() -> None:
    assert limits(Flaky(), Flaky()) == Flaky(reruns=1, at_most=5)
    assert limits(Flaky(reruns=0), Flaky(at_most=2)) == Flaky(reruns=0, at_most=2)
