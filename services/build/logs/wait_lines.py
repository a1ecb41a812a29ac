"""Says in a build's log what the build waits for."""

import time
from collections.abc import Callable

EVERY_S = 15.0


class WaitLines:
    """Writes what is waited for by `say`: each change at once, with the seconds since the first one, and the same again
    every 15 s."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._begun_at = clock()
        self._said_at = self._begun_at
        self._reason = ""

    def __call__(self, reason: str, progress: str = "") -> bool:
        """Notes the present reason, and returns True if it is new. `progress` says how much of which time is over."""
        now = self._clock()
        is_new = reason != self._reason
        if is_new or now - self._said_at >= EVERY_S:
            still = "" if is_new else f"still waiting{f' ({progress})' if progress else ''}: "
            self._say(f"    {now - self._begun_at:3.0f} s  {still}{reason}")
            self._reason, self._said_at = reason, now
        return is_new
