"""Defines all that the judge of a canary remembers. It can be written as JSON, and does not grow with the length of the
rollout.
"""

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
    """Says for what the bets on latency were made: the rollout's step, the time in seconds since the rollout was
    opened, and the canary's share of requests.
    """

    step: int
    at_s: float
    share: float


@dataclass
class JudgeState:
    """Holds all that a judge remembers of one rollout: the evidence for each kind of harm (`lanes`), production's
    latencies (`reference`), sums of requests (`strata`), visitors, and the verdict of a canary that failed. Times are
    in seconds since the rollout was opened.
    """

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
    """Time of the canary's first request. Latencies do not count for a while after it."""
    visitors: JudgedVisitors = field(default_factory=JudgedVisitors)
    tested: bool = False
    """True once the tests at the end of the last step were done, which are done only once."""
    failure: CanaryVerdict | None = None
