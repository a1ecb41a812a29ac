"""Decides whether a rollout's step, whose time is over, ends or goes on (is held). Pure: `now` is an argument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from services.monitor.analysis.lanes.margins import Margins
from shared.models import Track
from shared.proxy_models import RolloutState, RolloutView, VerdictResult, VerdictSummary

LEAST_REQUESTS = Margins().passes_from
FRESH = timedelta(seconds=10)  # figures come every 0.5 s
UNKNOWN_SCORE = 50


class GateVerdict(Protocol):
    """Defines the part of the canary judge's verdict that decides about the end of a step: `requests` is the number of
    requests of each track (production and canary) in this rollout, and `reason` a sentence for people.
    """

    @property
    def result(self) -> VerdictResult: ...
    @property
    def score(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def requests(self) -> Mapping[Track, int]: ...


@dataclass(frozen=True)
class GateCheck:
    """Holds the result of a check at the end of a rollout's step other than the canary's judge, such as an app's own
    metric. A check that did not pass holds the step.
    """

    name: str
    result: VerdictResult
    reason: str


@dataclass(frozen=True)
class GateDecision:
    """Holds the decision about a rollout's step whose time is over: it ends if `hold` is empty, and else goes on for
    the reason `hold`.
    """

    verdict: VerdictSummary
    hold: str


def is_over(rollout: RolloutView, now: datetime) -> bool:
    """Returns True if the time of the rollout's current step is over, and the rollout is not paused."""
    is_running = rollout.state is RolloutState.PROGRESSING and rollout.step < len(rollout.steps)
    return is_running and rollout.step_ends_at is not None and now >= rollout.step_ends_at


def is_last(rollout: RolloutView) -> bool:
    return rollout.step == len(rollout.steps) - 1


def decide(
    rollout: RolloutView,
    verdict: GateVerdict | None,
    read_at: datetime | None,
    checks: Sequence[GateCheck],
    now: datetime,
) -> GateDecision:
    """Decides whether the current step ends or is held. `verdict` is the judge's about the canary, by figures until
    `read_at`; None if there are no figures. Missing data holds the step. A canary or check that has failed holds it
    too, and does not abort the rollout: that is left to the alert rule `analysis`, which people may disable.
    """
    holds = [_missing(rollout, verdict, read_at, now)]
    holds += [f"{check.name}: {check.reason}" for check in checks if check.result is not VerdictResult.PASS]
    return GateDecision(_summary(verdict, now), "; ".join(hold for hold in holds if hold))


def _summary(verdict: GateVerdict | None, now: datetime) -> VerdictSummary:
    if verdict is None:
        reason = "nothing is known of the canary's requests yet"
        return VerdictSummary(result=VerdictResult.INCONCLUSIVE, score=UNKNOWN_SCORE, reason=reason, at=now)
    return VerdictSummary(result=verdict.result, score=verdict.score, reason=verdict.reason, at=now)


def _missing(rollout: RolloutView, verdict: GateVerdict | None, read_at: datetime | None, now: datetime) -> str:
    """Returns why the canary analysis does not let the step end, in words for people; empty if it does."""
    weight, is_at_last = rollout.steps[rollout.step].weight, is_last(rollout)
    if verdict is None or read_at is None:
        return "the monitor has no figures of this rollout yet"
    if verdict.result is VerdictResult.FAIL:
        return f"the canary has failed: {verdict.reason}"
    if now - read_at > FRESH:
        return f"the monitor has no new figures since {read_at:%H:%M:%S} UTC"
    if is_at_last and verdict.result is not VerdictResult.PASS:
        return _lacking(rollout, verdict)
    if weight and not verdict.requests.get(Track.CANARY):
        return "no visitor's request has reached the canary yet; at least one is needed to go on"
    return ""


def _lacking(rollout: RolloutView, verdict: GateVerdict) -> str:
    if rollout.weight == 0:
        return "its share is 0 percent, so there is nothing to judge; set a share, or promote it by hand"
    seen = verdict.requests.get(Track.CANARY, 0)
    if seen < LEAST_REQUESTS:
        return f"the canary has had {seen} requests that count, {LEAST_REQUESTS - seen} more are needed"
    return f"not certain yet: {verdict.reason}"
