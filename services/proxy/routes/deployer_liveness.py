"""Liveness of the deployer, and its effect on a rollout. Pure: `now` is an argument."""

from dataclasses import dataclass
from datetime import datetime

from services.proxy.routes.rollout import Rollout, paused_by_platform, resumed_by_platform
from shared.proxy_models import RolloutState

SILENT_S = 5.0
SILENT_AT_START_S = 15.0
MISSES = 2
RECOVERED_S = 2.0

ANSWERS_AGAIN = "the deployer answers again"


@dataclass(frozen=True)
class DeployerLiveness:
    """The deployer's answers to liveness probes so far."""

    answered_at: datetime
    """The last answer, or when probing began."""
    silent_s: float = SILENT_S
    """Seconds without an answer that count as silence; more until the first answer after this service's start, since
    the platform's services start together.
    """
    misses: int = 0
    """Consecutive probes without an answer."""
    answering_since: datetime | None = None
    """The first answer after the last miss."""

    def silent(self, now: datetime) -> bool:
        """Returns whether the deployer is silent: no answer for `silent_s`, and more than one probe missed. A slow
        answer or a clock that jumped does not count.
        """
        return self.misses >= MISSES and (now - self.answered_at).total_seconds() >= self.silent_s

    @property
    def recovered(self) -> bool:
        """True if every probe was answered for 2 s: a service that dies as it starts is not back."""
        since = self.answering_since
        return since is not None and (self.answered_at - since).total_seconds() >= RECOVERED_S


def after_probe(liveness: DeployerLiveness, answered: bool, now: datetime) -> DeployerLiveness:
    """Returns the liveness after one more probe."""
    if not answered:
        return DeployerLiveness(liveness.answered_at, liveness.silent_s, misses=liveness.misses + 1)
    return DeployerLiveness(answered_at=now, answering_since=liveness.answering_since or now)


def paused_or_resumed(rollout: Rollout, liveness: DeployerLiveness, now: datetime) -> Rollout:
    """Pauses a progressing rollout when the deployer is silent; resumes one that paused for this reason when it is
    well.

    Any other rollout is returned unchanged.
    """
    if rollout.state is RolloutState.PROGRESSING and liveness.silent(now):
        silent_s = (now - liveness.answered_at).total_seconds()
        reason = f"the deployer does not answer: nothing for {silent_s:.0f} s; the rollout goes on when it does"
        return paused_by_platform(rollout, reason, now)
    if rollout.state is RolloutState.PAUSED and rollout.resumes_by_itself and liveness.recovered:
        return resumed_by_platform(rollout, ANSWERS_AGAIN, now)
    return rollout
