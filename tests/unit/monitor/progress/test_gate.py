"""A step whose time is over ends, or is held with what is missing or has failed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from services.monitor.progress.gate import GateCheck, decide, is_over
from shared.canary import CanaryStep
from shared.models import Track
from shared.proxy_models import RolloutState, RolloutView, VerdictResult

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PASS, FAIL, UNSURE = VerdictResult.PASS, VerdictResult.FAIL, VerdictResult.INCONCLUSIVE


@dataclass(frozen=True)
class Said:
    result: VerdictResult
    score: int = 60
    reason: str = "the bounds are wide"
    requests: Mapping[Track, int] = field(default_factory=lambda: {Track.STABLE: 700, Track.CANARY: 300})


def rollout(step: int = 0, weight: int = 33, **fields: object) -> RolloutView:
    steps = [CanaryStep(weight=weight, lasts=120), CanaryStep(weight=weight, lasts=600)]
    told = {"app": "notes", "release": "notes-r2", "state": RolloutState.PROGRESSING, "steps": steps, "step": step}
    return RolloutView.model_validate({**told, "enabled": True, "weight": weight, "step_ends_at": NOW, **fields})


@pytest.mark.parametrize(
    ("step", "result", "ends"),
    [
        (0, PASS, True),
        (0, UNSURE, True),
        (0, FAIL, False),
        (1, PASS, True),
        (1, UNSURE, False),
        (1, FAIL, False),
    ],
)
def test_only_the_last_step_needs_certainty(step: int, result: VerdictResult, ends: bool) -> None:
    decision = decide(rollout(step), Said(result), NOW, [], NOW)
    assert (decision.hold == "") is ends
    assert (decision.verdict.result, decision.verdict.score, decision.verdict.at) == (result, 60, NOW)


def without_visitors(result: VerdictResult) -> Said:
    return Said(result, requests={Track.STABLE: 700})


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("verdict", "read_at", "hold"),
    [
        (None, None, "the monitor has no figures of this rollout yet"),
        (Said(PASS), None, "the monitor has no figures of this rollout yet"),
        (Said(PASS), NOW - timedelta(seconds=11), "the monitor has no new figures since 23:59:49 UTC"),
        (without_visitors(PASS), NOW, "no visitor's request has reached the canary yet; at least one is needed"),
    ],
)
def test_missing_data_never_counts_as_good(step: int, verdict: Said | None, read_at: datetime, hold: str) -> None:
    decision = decide(rollout(step), verdict, read_at, [], NOW)
    assert decision.hold.startswith(hold)


@pytest.mark.parametrize(
    ("verdict", "weight", "hold"),
    [
        (without_visitors(UNSURE), 33, "the canary has had 0 requests that count, 100 more are needed"),
        (
            Said(UNSURE, requests={Track.CANARY: 40}),
            33,
            "the canary has had 40 requests that count, 60 more are needed",
        ),
        (Said(UNSURE), 33, "not certain yet: the bounds are wide"),
        (Said(FAIL, reason="12 of 130 requests failed"), 33, "the canary has failed: 12 of 130 requests failed"),
        (without_visitors(UNSURE), 0, "its share is 0 percent, so there is nothing to judge; set a share, or promote"),
    ],
)
def test_a_hold_says_what_is_missing(verdict: Said, weight: int, hold: str) -> None:
    assert decide(rollout(1, weight), verdict, NOW, [], NOW).hold.startswith(hold)


def test_an_inner_step_without_a_share_needs_no_visitors() -> None:
    assert decide(rollout(0, 0), without_visitors(UNSURE), NOW, [], NOW).hold == ""


def test_a_check_of_the_app_that_did_not_pass_holds_the_step() -> None:
    waits = GateCheck("load", UNSURE, "the hook has not answered yet")
    fails = GateCheck("orders", FAIL, "3 a minute, at least 10 are asked for")
    passes = GateCheck("cpu", PASS, "0.3 of 1")
    assert decide(rollout(), Said(PASS), NOW, [passes], NOW).hold == ""
    held = decide(rollout(), Said(PASS), NOW, [passes, waits, fails], NOW)
    assert held.hold == "load: the hook has not answered yet; orders: 3 a minute, at least 10 are asked for"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"step_ends_at": NOW + timedelta(seconds=1)}, False),
        ({"step_ends_at": None}, False),
        ({"state": RolloutState.PAUSED}, False),
        ({"state": RolloutState.ABORTED}, False),
        ({"step": 2}, False),
        ({"steps": []}, False),
    ],
)
def test_a_step_is_over_when_its_time_is(fields: dict[str, object], expected: bool) -> None:
    assert is_over(rollout(**fields), NOW) is expected  # type: ignore[arg-type]
