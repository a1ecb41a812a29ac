from datetime import UTC, datetime
from itertools import product

import pytest

from services.proxy.rollout import TRANSITIONS, Promotion, Rollout, moved, release_number, retire_request
from shared.models import RolloutState
from shared.state import IllegalTransition

NOW = datetime(2026, 1, 1, tzinfo=UTC)
P, S, DONE, A = RolloutState.PROGRESSING, RolloutState.PAUSED, RolloutState.PROMOTED, RolloutState.ABORTED
LEGAL = {(P, S), (S, P), (P, DONE), (S, DONE), (P, A), (S, A)}


@pytest.mark.parametrize(("old", "new"), list(product(RolloutState, repeat=2)))
def test_every_pair_of_states(old: RolloutState, new: RolloutState) -> None:
    rollout = Rollout(release="notes-r9", state=old, at=NOW)
    if (old, new) in LEGAL:
        after = moved(rollout, new, "why", NOW)
        assert (after.state, after.reason, after.at) == (new, "why", NOW)
    else:
        with pytest.raises(IllegalTransition):
            moved(rollout, new, "why", NOW)


def test_the_table_names_every_state() -> None:
    assert set(TRANSITIONS) == set(RolloutState)


def test_an_abort_ends_a_promotion_under_way() -> None:
    rollout = Rollout(release="notes-r9", at=NOW, promotion=Promotion(asked_at=NOW))
    assert moved(rollout, A, "errors", NOW).promotion is None


@pytest.mark.parametrize(("release", "number"), [("notes-r9", 9), ("a-r2-r10", 10), ("notes", 0), ("notes-rx", 0)])
def test_releases_are_ordered_by_number(release: str, number: int) -> None:
    assert release_number(release) == number


@pytest.mark.parametrize(("reason", "state"), [("superseded", "retired"), ("errors above 1 %", "rolled_back")])
def test_only_an_abort_for_cause_is_a_rollback(reason: str, state: str) -> None:
    assert retire_request(reason).state == state
