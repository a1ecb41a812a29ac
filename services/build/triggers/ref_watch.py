"""Decides for which apps git must read the branches again: those whose branches may have changed since they were last
read. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.build.git.ref_stamp import RefStamp

READ_AGAIN_S = 600.0


@dataclass(frozen=True)
class AppState:
    """Holds what is known of an app without running git. Two equal states mean that the app's branches and their
    environments are the same.
    """

    refs: RefStamp | None
    """Stamp that identifies the state of the repository's branches; None if it could not be read."""
    record: str | None
    """Record of the app as it is stored; None if there is none."""


@dataclass(frozen=True)
class _Reading:
    state: AppState
    read_at_s: float


class RefWatch:
    """Remembers, for each app, the state in which its branches were last read and its builds queued. Times are seconds
    of a monotonic clock.
    """

    def __init__(self) -> None:
        self._readings: dict[str, _Reading] = {}

    def due(self, states: Mapping[str, AppState], now_s: float) -> list[str]:
        """Returns those apps of `states` whose branches must be read again. These are the apps whose state has changed
        since the last reading. In case a state hides a change, the app that was read longest ago is also among them, if
        that was at least 10 minutes ago.
        """
        self._readings = {app: reading for app, reading in self._readings.items() if app in states}
        changed = [
            app for app, state in states.items() if app not in self._readings or self._readings[app].state != state
        ]
        oldest = min(self._readings, key=lambda app: self._readings[app].read_at_s, default=None)
        if oldest is not None and oldest not in changed and now_s - self._readings[oldest].read_at_s >= READ_AGAIN_S:
            changed.append(oldest)
        return changed

    def was_read(self, app: str, state: AppState, now_s: float) -> None:
        """Records that the app was in `state`, and that its branches were then read and its builds queued."""
        self._readings[app] = _Reading(state, now_s)
