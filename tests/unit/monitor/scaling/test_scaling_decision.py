"""Decisions: their states, and how looks that came to the same become one entry."""

import itertools
from dataclasses import replace

import pytest

from services.monitor.scaling.scaling_decision import (
    DECISION_TABLE,
    Action,
    Cause,
    DecisionState,
    Past,
    ScalingVerdict,
    new_decision,
    repeated,
    scaling_event,
    settled,
)
from shared.state import IllegalTransition, transition
from tests.support.monitor.scaled import KEY, MIB, at, change

CALM = ScalingVerdict(Action.NONE, Cause.WITHIN_BAND, "calm", 64 * MIB, 64 * MIB, "notes-r3")
GROWS = ScalingVerdict(Action.UP, Cause.FULL, "full", 64 * MIB, 128 * MIB, "notes-r3")


@pytest.mark.parametrize(("current", "new"), list(itertools.product(DecisionState, DecisionState)))
def test_every_pair_of_states(current: DecisionState, new: DecisionState) -> None:
    if current is DecisionState.DECIDED and new is not DecisionState.DECIDED:
        assert transition(DECISION_TABLE, current, new) is new
    else:
        with pytest.raises(IllegalTransition):
            transition(DECISION_TABLE, current, new)


def test_a_change_begins_as_decided_and_keeps_why_it_ended() -> None:
    decision = new_decision(KEY, Past(), GROWS, at(1))
    assert (decision.id, decision.state, decision.is_open) == ("notes-production-1", DecisionState.DECIDED, True)
    ended = settled(decision, DecisionState.REFUSED, "the deployer refused: no", at(2))
    assert (ended.state, ended.outcome, ended.settled_at) == (
        DecisionState.REFUSED,
        "the deployer refused: no",
        at(2),
    )
    assert not ended.is_open
    with pytest.raises(IllegalTransition):
        settled(ended, DecisionState.APPLIED, "", at(3))


def test_what_changes_nothing_has_no_state() -> None:
    decision = new_decision(KEY, Past(change(0)), CALM, at(1))
    assert (decision.number, decision.state, decision.is_open) == (2, None, False)
    with pytest.raises(ValueError, match="has no outcome"):
        settled(decision, DecisionState.APPLIED, "", at(2))


def test_looks_that_came_to_the_same_are_one_entry() -> None:
    first = new_decision(KEY, Past(), CALM, at(0))
    second = repeated(first, replace(CALM, reason="calmer", to=32), at(2))
    assert second is not None
    assert (second.id, second.count, second.first_at, second.at) == (first.id, 2, at(0), at(2))
    assert (second.reason, second.to) == ("calmer", 32)


@pytest.mark.parametrize("verdict", [replace(CALM, cause=Cause.COOLDOWN), replace(CALM, release="notes-r4"), GROWS])
def test_another_cause_release_or_a_change_is_an_entry_of_its_own(verdict: ScalingVerdict) -> None:
    assert repeated(new_decision(KEY, Past(), CALM, at(0)), verdict, at(2)) is None


def test_two_changes_are_two_entries() -> None:
    assert repeated(new_decision(KEY, Past(), GROWS, at(0)), GROWS, at(2)) is None
    assert repeated(None, CALM, at(2)) is None


def test_from_is_called_from_where_it_is_written() -> None:
    decision = new_decision(KEY, Past(), GROWS, at(0))
    assert decision.model_dump()["from"] == 64 * MIB
    assert type(decision).model_validate_json(decision.model_dump_json()) == decision
    event = scaling_event(decision)
    assert (event.type, event.app, event.id, event.at) == ("scaling.decided", "notes", decision.id, at(0))
    assert event.model_extra == {
        "environment": "production",
        "release": "notes-r3",
        "action": "up",
        "cause": "full",
        "from": 64 * MIB,
        "to": 128 * MIB,
        "inputs": [],
    }
