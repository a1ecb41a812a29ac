"""Judges one rollout."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from services.monitor.analysis.margins import Margins
from services.monitor.analysis.verdict import CanaryVerdict
from services.monitor.analysis.window import JudgedWindow


class Judge:
    """Judges one rollout from the requests of both tracks. It has no clock and does no input or output: whoever has the
    windows adds them in their order. `dump` and `restored` carry the state over a restart.
    """

    def __init__(self, le_ms: Sequence[float | None], margins: Margins = Margins()) -> None:
        """Takes the upper bounds of the latency buckets in ms, ascending; the last one is None. They are the same for
        all windows of a rollout.
        """
        self.le_ms = tuple(le_ms)
        self.margins = margins

    @property
    def failed(self) -> bool:
        """Returns True once the canary has failed, for ever. This is cheap, other than `verdict()`."""
        return False

    def add(self, window: JudgedWindow) -> None:
        """Adds the window that follows the last one. Raises ValueError if its latency has other buckets."""

    def verdict(self) -> CanaryVerdict:
        """Returns the verdict as of the last window. `fail` may be acted on at any time, and is never taken back."""
        raise NotImplementedError

    def at_gate(self, last: bool) -> CanaryVerdict:
        """Returns the verdict at the end of a step, or at the end of the rollout (`last`), where it may be asked for
        again and again until it is no longer inconclusive.
        """
        raise NotImplementedError

    def dump(self) -> dict[str, JsonValue]:
        """Returns the state, which does not grow with the length of the rollout."""
        raise NotImplementedError

    @classmethod
    def restored(cls, dumped: Mapping[str, JsonValue], margins: Margins = Margins()) -> "Judge":
        """Returns a judge that goes on where the dumped one was. Raises ValueError if another version dumped it."""
        raise NotImplementedError
