"""Defines all that a judge remembers. It can be written as JSON, and does not grow with the length of the rollout."""

from dataclasses import dataclass, field

from services.monitor.analysis.lanes.error_lane import AssignedShare, OutageBet
from services.monitor.analysis.lanes.lane import Lane
from services.monitor.analysis.lanes.latency_lane import ReferenceHistogram
from services.monitor.analysis.lanes.margins import LaneName
from services.monitor.analysis.strata import Strata
from services.monitor.analysis.verdict import CanaryVerdict
from services.monitor.analysis.visitors import JudgedVisitors

VERSION = 1


@dataclass
class PreparedBets:
    """Says for which step, at which time and for which share of the canary the bets on latency were made."""

    step: int
    at_s: float
    share: float


@dataclass
class JudgeState:
    """Holds what is known of one rollout."""

    le_ms: list[float | None]
    lanes: dict[LaneName, Lane]
    reference: ReferenceHistogram
    strata: Strata
    version: int = VERSION
    share: AssignedShare = field(default_factory=AssignedShare)
    outage: OutageBet = field(default_factory=OutageBet)
    prepared: PreparedBets | None = None
    at_s: float = 0.0
    first_canary_s: float | None = None
    """Time of the canary's first request, with which its warm-up begins."""
    visitors: JudgedVisitors = field(default_factory=JudgedVisitors)
    tested: bool = False
    """True once the tests of the last gate were done. They are done once."""
    failure: CanaryVerdict | None = None
