"""Keeps one judge for each open rollout, and feeds it with the differences of the proxy's counters."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.proxy_models import JudgedTraffic

# The judge's own classes take the place of these names once `services/monitor/analysis` is there.
Judge = Any
Verdict = Any
Window = Any

WindowObserver = Callable[[str, str, Window, Verdict], None]
"""Function that is called with app, release, window and the verdict after it. It must not wait; an exception is
logged.
"""


@dataclass
class Analysis:
    """Holds the canary analysis of one open rollout."""

    app: str
    release: str
    judge: Judge
    since: datetime
    """Time at which the rollout was opened."""
    step: int
    """Number of the step of the last window."""
    last_window_at: datetime | None = None
    """Time of the reading that ended the last window; None before the first one. A proxy that gives no figures does not
    advance it.
    """
    verdict: Verdict | None = None
    """Verdict after the last window."""
    judged: JudgedTraffic | None = None
    """The proxy's counters at the end of the last window, also of what was left out."""


class CanaryAnalyses:
    """Makes windows from the proxy's counters and gives them to the judges. `observers` are told of each window."""

    def of(self, app: str) -> Analysis | None:
        """Returns the analysis of the app's open rollout; None if there is none, or no window of it yet."""
        raise NotImplementedError
