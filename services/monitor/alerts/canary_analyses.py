"""Keeps one judge for each open rollout, and feeds it with the differences of the proxy's counters."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from services.monitor.analysis.judge import Judge
from services.monitor.analysis.verdict import CanaryVerdict
from services.monitor.analysis.window import JudgedWindow
from shared.proxy_models import JudgedTraffic


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
    judged: JudgedTraffic | None = None
    """The proxy's counters at the end of the last window, also of what was left out."""
    _verdict: CanaryVerdict | None = field(default=None, repr=False)

    def verdict(self) -> CanaryVerdict:
        """Returns the judge's verdict after the last window, which is computed once a window."""
        if self._verdict is None:
            self._verdict = self.judge.verdict()
        return self._verdict


WindowObserver = Callable[[Analysis, JudgedWindow], None]
"""Function that is called after each window was added to the analysis. It must not wait; an exception is logged."""


class CanaryAnalyses:
    """Makes windows from the proxy's counters and gives them to the judges. `observers` are told of each window."""

    def of(self, app: str) -> Analysis | None:
        """Returns the analysis of the app's open rollout; None if there is none, or no window of it yet."""
        raise NotImplementedError
