"""Whether the deployer answers, and what that does to a rollout. Pure: `now` is an argument."""

from dataclasses import dataclass
from datetime import datetime

from services.proxy.routes.rollout import Rollout, paused_by_platform, resumed_by_platform
from shared.proxy_models import RolloutState

SILENT_S = 5.0
SILENT_AT_START_S = 15.0
MISSES = 2
WELL_S = 2.0

ANSWERS_AGAIN = "the deployer answers again"


@dataclass(frozen=True)
class DeployerLiveness:
    """`heard_at`: the last answer, or when the asking began; `misses`: questions in a row that were not answered;
    `well_since`: the first answer after the last miss; `silent_s`: the seconds without an answer that are silence, more
    until the first one after this service's start, since the platform's services start together.
    """

    heard_at: datetime
    silent_s: float = SILENT_S
    misses: int = 0
    well_since: datetime | None = None

    def silent(self, now: datetime) -> bool:
        """Nothing for so long, and more than one question missed: a slow answer or a clock that jumped is none."""
        return self.misses >= MISSES and (now - self.heard_at).total_seconds() >= self.silent_s

    @property
    def well(self) -> bool:
        """Every question was answered for 2 s: a service that dies as it starts is not back."""
        return self.well_since is not None and (self.heard_at - self.well_since).total_seconds() >= WELL_S


def listened(hearing: DeployerLiveness, answered: bool, now: datetime) -> DeployerLiveness:
    """After one more question."""
    if not answered:
        return DeployerLiveness(hearing.heard_at, hearing.silent_s, misses=hearing.misses + 1)
    return DeployerLiveness(heard_at=now, well_since=hearing.well_since or now)


def after_listening(rollout: Rollout, hearing: DeployerLiveness, now: datetime) -> Rollout:
    """A progressing rollout pauses when the deployer is silent; one that paused for this alone goes on when it is well.
    Any other is returned as it is.
    """
    if rollout.state is RolloutState.PROGRESSING and hearing.silent(now):
        silent_s = (now - hearing.heard_at).total_seconds()
        reason = f"the deployer does not answer: nothing for {silent_s:.0f} s; the rollout goes on when it does"
        return paused_by_platform(rollout, reason, now)
    if rollout.state is RolloutState.PAUSED and rollout.resumes_by_itself and hearing.well:
        return resumed_by_platform(rollout, ANSWERS_AGAIN, now)
    return rollout
