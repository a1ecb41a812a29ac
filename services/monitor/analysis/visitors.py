"""Tells whether errors are those of enough visitors. The errors of one visitor, who always gets the same track, are not
independent of each other: a visitor whose account is broken in both releases looks like a broken release.
"""

from services.monitor.analysis.lanes.margins import LaneName, Margins
from services.monitor.analysis.state import JudgeState
from shared.models import Track

OF_VISITORS: tuple[LaneName, ...] = ("errors", "gross errors", "outage")


def enough_visitors(state: JudgeState, margins: Margins, lane: LaneName) -> bool:
    """Returns True if errors may fail the canary. At least 3 of its visitors must have had one. If the canary has fewer
    visitors, only an outage may, and only if all of them had errors. Latency and client errors always may.
    """
    visitors, failing = state.visitors[Track.CANARY], state.failing_visitors[Track.CANARY]
    if lane not in OF_VISITORS or failing >= margins.visitors:
        return True
    return visitors < margins.visitors and lane == "outage" and failing >= visitors
