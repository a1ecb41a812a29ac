"""The states of an alert and of its abort: every pair, and the way through them."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from services.monitor.alerts.alert import (
    ABORT_TABLE,
    ALERT_TABLE,
    OPEN,
    AbortState,
    Alert,
    AlertState,
    end,
    new_alert,
    next_alert,
    settle_abort,
    want_abort,
)
from services.monitor.rules.rule import Metric, Reading, Rule
from shared.models import Environment
from shared.state import IllegalTransition, transition

AT = datetime(2026, 1, 1, tzinfo=UTC)
RULE = Rule(name="errors", metric=Metric.ERROR_SHARE, threshold=0.05, for_s=5, aborts=True)
INACTIVE, PENDING, FIRING, RESOLVED, GONE = AlertState


def reading(words: str = "because", value: float = 0.5) -> Reading:
    return Reading(value, words, {"canary_requests": 41})


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def alert(state: AlertState = INACTIVE, environment: Environment = Environment.CANARY) -> Alert:
    return new_alert(RULE, "notes", environment, "notes-r9", AT).model_copy(update={"state": state})


ALLOWED = {
    (INACTIVE, PENDING),
    (PENDING, INACTIVE),
    (PENDING, FIRING),
    (PENDING, GONE),
    (FIRING, RESOLVED),
    (FIRING, GONE),
    (RESOLVED, PENDING),
    (GONE, PENDING),
}


@pytest.mark.parametrize(("current", "new"), list(itertools.product(AlertState, AlertState)))
def test_every_pair_of_states(current: AlertState, new: AlertState) -> None:
    if (current, new) in ALLOWED:
        assert transition(ALERT_TABLE, current, new) == new
    else:
        with pytest.raises(IllegalTransition):
            transition(ALERT_TABLE, current, new)


@pytest.mark.parametrize(("current", "new"), list(itertools.product(AbortState, AbortState)))
def test_every_pair_of_an_aborts_states(current: AbortState, new: AbortState) -> None:
    if (current == AbortState.WANTED) != (new == AbortState.WANTED):
        assert transition(ABORT_TABLE, current, new) == new
    else:
        with pytest.raises(IllegalTransition):
            transition(ABORT_TABLE, current, new)


@pytest.mark.parametrize(
    ("state", "breaching", "later_s", "expected"),
    [
        (INACTIVE, True, 0, PENDING),
        (INACTIVE, False, 0, INACTIVE),
        (PENDING, True, 4.9, PENDING),
        (PENDING, True, 5, FIRING),  # inclusive
        (PENDING, False, 9, INACTIVE),
        (FIRING, True, 9, FIRING),
        (FIRING, False, 9, RESOLVED),
        (RESOLVED, True, 9, PENDING),
        (RESOLVED, False, 9, RESOLVED),
        (GONE, True, 9, PENDING),
        (GONE, False, 9, GONE),
    ],
)
def test_one_look_at_each_state(state: AlertState, breaching: bool, later_s: float, expected: AlertState) -> None:
    after = next_alert(alert(state), breaching, RULE, at(later_s), reading("because"))
    assert after.state == expected
    if expected != state:
        assert (after.reason, after.since) == ("because", at(later_s))


@pytest.mark.parametrize("state", AlertState)
def test_no_data_changes_nothing(state: AlertState) -> None:
    assert next_alert(alert(state), None, RULE, at(1000), reading("no data")) == alert(state)


def test_without_a_for_it_fires_at_the_first_look() -> None:
    fired = next_alert(alert(), True, RULE.model_copy(update={"for_s": 0}), at(3), reading("because"))
    assert (fired.state, fired.active_at, fired.abort) == (FIRING, at(3), AbortState.WANTED)


def test_only_a_rule_that_aborts_wants_an_abort() -> None:
    quiet = RULE.model_copy(update={"for_s": 0, "aborts": False})
    assert next_alert(alert(), True, quiet, at(3), reading("because")).abort is None


def test_the_time_of_for_starts_again_when_it_was_fine_in_between() -> None:
    current = next_alert(alert(), True, RULE, at(0), reading(""))
    current = next_alert(current, False, RULE, at(4), reading(""))
    current = next_alert(current, True, RULE, at(5), reading(""))
    assert next_alert(current, True, RULE, at(9), reading("")).state == PENDING
    assert next_alert(current, True, RULE, at(10), reading("")).state == FIRING


def test_a_wanted_abort_outlives_the_firing() -> None:
    fired = next_alert(alert(PENDING), True, RULE, at(5), reading("answered 41 of 41"))
    resolved = next_alert(fired, False, RULE, at(6), reading("fine again"))
    assert (resolved.state, resolved.abort, resolved.abort_reason) == (RESOLVED, AbortState.WANTED, "answered 41 of 41")
    settled = settle_abort(resolved, AbortState.CONFIRMED, at(7), "answered 41 of 41")
    assert (settled.abort, settled.abort_at) == (AbortState.CONFIRMED, at(7))
    assert want_abort(settled, at(8)).abort == AbortState.WANTED


@pytest.mark.parametrize("state", AlertState)
def test_only_an_open_alert_can_be_gone(state: AlertState) -> None:
    if state in OPEN:
        gone = end(alert(state), at(1), "the release was retired")
        assert (gone.state, gone.reason) == (GONE, "the release was retired")
    else:
        with pytest.raises(IllegalTransition):
            end(alert(state), at(1), "")


def test_an_alert_about_production_asks_for_no_abort() -> None:
    at_once = RULE.model_copy(update={"for_s": 0})
    fired = next_alert(alert(environment=Environment.PRODUCTION), True, at_once, at(3), reading())
    assert (fired.state, fired.aborts, fired.abort) == (FIRING, False, None)
    assert next_alert(alert(), True, at_once, at(3), reading()).aborts


def test_it_fires_on_until_it_has_been_well_for_long_enough() -> None:
    rule = RULE.model_copy(update={"keep_firing_for_s": 10})
    well = [next_alert(alert(FIRING), False, rule, at(100), reading())]
    for second in (105, 109.9):
        well.append(next_alert(well[-1], False, rule, at(second), reading()))
    assert {(item.state, item.well_since) for item in well} == {(FIRING, at(100))}
    assert next_alert(well[-1], None, rule, at(200), reading()) == well[-1]  # no data is not good news
    assert next_alert(well[-1], False, rule, at(110), reading("fine")).state == RESOLVED  # inclusive
    ill = next_alert(well[-1], True, rule, at(109.9), reading())
    assert (ill.state, ill.well_since) == (FIRING, None)
    assert next_alert(ill, False, rule, at(111), reading()).state == FIRING  # counted anew


def test_it_keeps_what_it_fired_on() -> None:
    pending = next_alert(alert(), True, RULE, at(0), reading("answered 3 of 41", 0.07))
    assert (pending.value, pending.threshold, pending.metric) == (0.07, 0.05, Metric.ERROR_SHARE)
    fired = next_alert(pending, True, RULE, at(5), reading("answered 21 of 41", 0.5))
    later = next_alert(fired, True, RULE, at(6), reading("answered 41 of 41", 1.0))
    resolved = next_alert(later, False, RULE, at(7), reading("answered 0 of 41", 0.0))
    assert resolved.evidence() == {
        "alert": "errors:notes-r9",
        "rule": "errors",
        "metric": "error_share",
        "value": 0.5,
        "threshold": 0.05,
        "words": "answered 21 of 41",
        "since": "2026-01-01T00:00:00+00:00",
        "seen": {"canary_requests": 41},
    }
