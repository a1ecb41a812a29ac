"""Decides when the deployer (the service that runs releases) counts as silent, and when a rollout is paused or resumed
because of that. Pure: `now` is an argument.
"""

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
    """Holds the results so far of the probes that ask whether the deployer answers."""

    answered_at: datetime
    """Time of the last answer; before the first one, the time at which probing began."""
    silent_s: float = SILENT_S
    """Seconds without an answer after which the deployer counts as silent. It is longer right after the start of this
    service, because all services start at the same time.
    """
    misses: int = 0
    """Number of failed probes since the last answer."""
    answering_since: datetime | None = None
    """Time of the first answer after the last failed probe; None if the last probe failed."""

    def silent(self, now: datetime) -> bool:
        """Returns True if there was no answer for `silent_s` and at least two probes in a row have failed. One slow
        answer or a jump of the clock is thus not enough.
        """
        return self.misses >= MISSES and (now - self.answered_at).total_seconds() >= self.silent_s

    @property
    def recovered(self) -> bool:
        """Returns True if every probe of the last 2 s was answered. One answer is not enough, since it may come from a
        deployer that fails while it starts.
        """
        since = self.answering_since
        return since is not None and (self.answered_at - since).total_seconds() >= RECOVERED_S


def after_probe(liveness: DeployerLiveness, answered: bool, now: datetime) -> DeployerLiveness:
    """Returns the liveness after one more probe, made at `now`. `answered` says whether the deployer answered it."""
    if not answered:
        return DeployerLiveness(liveness.answered_at, liveness.silent_s, misses=liveness.misses + 1)
    return DeployerLiveness(answered_at=now, answering_since=liveness.answering_since or now)


def paused_or_resumed(rollout: Rollout, liveness: DeployerLiveness, now: datetime) -> Rollout:
    """Returns the rollout paused if it is progressing and the deployer is silent (has not answered for some seconds).
    Returns it resumed if it was paused for that reason and the deployer has recovered (has answered every probe of 2
    s). Else returns the same object.
    """
    if rollout.state is RolloutState.PROGRESSING and liveness.silent(now):
        silent_s = (now - liveness.answered_at).total_seconds()
        reason = f"the deployer does not answer: nothing for {silent_s:.0f} s; the rollout goes on when it does"
        return paused_by_platform(rollout, reason, now)
    if rollout.state is RolloutState.PAUSED and rollout.resumes_by_itself and liveness.recovered:
        return resumed_by_platform(rollout, ANSWERS_AGAIN, now)
    return rollout
