from datetime import UTC, datetime
from itertools import product

import pytest

from services.proxy.routes.rollout import (
    TRANSITIONS,
    Promotion,
    Rollout,
    moved,
    paused_by_platform,
    resumed_by_platform,
    retire_request,
    rollout_event,
    with_earlier,
)
from shared.proxy_models import RolloutState
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


def test_the_platforms_own_pause_keeps_the_promotion_and_ends_as_one() -> None:
    rollout = Rollout(release="notes-r9", at=NOW, promotion=Promotion(asked_at=NOW))
    paused = paused_by_platform(rollout, "silence", NOW)
    assert (paused.state, paused.resumes_by_itself, paused.promotion) == (S, True, rollout.promotion)
    resumed = resumed_by_platform(paused, "an answer", NOW)
    assert (resumed.state, resumed.resumes_by_itself, resumed.promotion) == (P, False, rollout.promotion)
    assert not moved(paused, A, "errors", NOW).resumes_by_itself


def test_a_rollout_of_an_older_version_was_opened_when_it_came_into_its_state() -> None:
    stored = '{"release": "notes-r9", "state": "paused", "reason": "why", "at": "2026-01-01T00:00:00Z"}'
    assert Rollout.model_validate_json(stored).opened_at == NOW


def test_the_last_twenty_ended_rollouts_are_kept_newest_first() -> None:
    earlier: list[Rollout] = []
    for number in range(1, 25):
        earlier = with_earlier(Rollout(release=f"notes-r{number}", state=A, at=NOW), earlier)
    assert [rollout.release for rollout in earlier] == [f"notes-r{number}" for number in range(24, 4, -1)]
    assert with_earlier(None, earlier) == earlier


def test_an_event_says_whom_to_tell_and_what_it_is_about() -> None:
    rollout = Rollout(release="notes-r9", commit="c" * 40, reason="why", at=NOW, notify=["mailto://a@example.com"])
    event = rollout_event("notes", rollout, 33).model_dump(mode="json")
    assert event == {
        "type": "rollout.progressing",
        "app": "notes",
        "at": "2026-01-01T00:00:00Z",
        "id": "notes-r9",
        "reason": "why",
        "notify": ["mailto://a@example.com"],
        "release": "notes-r9",
        "environment": "canary",
        "commit": "c" * 40,
        "weight": 33,
    }
    aborted = rollout.model_copy(update={"state": A, "commit": None, "evidence": {"rule": "errors"}})
    event = rollout_event("notes", aborted, 33).model_dump(mode="json")
    assert (event["type"], event["evidence"], "commit" in event) == ("rollout.aborted", {"rule": "errors"}, False)


def test_an_abort_ends_a_promotion_under_way() -> None:
    rollout = Rollout(release="notes-r9", at=NOW, promotion=Promotion(asked_at=NOW))
    assert moved(rollout, A, "errors", NOW).promotion is None


@pytest.mark.parametrize(("reason", "state"), [("superseded", "retired"), ("errors above 1 %", "rolled_back")])
def test_only_an_abort_for_cause_is_a_rollback(reason: str, state: str) -> None:
    assert retire_request(reason).state == state
