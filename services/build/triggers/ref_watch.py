"""Decides which apps' branches must be read again by git: those that may have changed since the last reading. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.build.git.ref_stamp import RefStamp

READ_AGAIN_S = 600.0


@dataclass(frozen=True)
class AppState:
    """The state of an app as far as it is known without running git. Equal states mean equal branches and equal
    mappings.
    """

    refs: RefStamp | None
    """None if it could not be taken."""
    record: str | None
    """The app's stored record; None if there is none."""


@dataclass(frozen=True)
class _Reading:
    state: AppState
    read_at_s: float


class RefWatch:
    """Remembers the state in which each app's branches were last read and all its builds queued. Times are seconds of a
    monotonic clock.
    """

    def __init__(self) -> None:
        self._readings: dict[str, _Reading] = {}

    def due(self, states: Mapping[str, AppState], now_s: float) -> list[str]:
        """Returns those apps of `states` whose branches must be read: those whose state differs from the last one read;
        and, in case a state hides a change, the one that was read longest ago, if that was 10 min ago or more.
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
        """Records that the app's branches were read, and its builds queued, after the app was in `state`."""
        self._readings[app] = _Reading(state, now_s)
