"""Writes to a build's log what the build waits for."""

import time
from collections.abc import Callable

EVERY_S = 15.0


class WaitLines:
    """Writes lines about a wait with the function `say`. A new reason is written at once, an unchanged one again 15 s
    after the last line. Each line begins with the seconds since this object was created.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._begun_at = clock()
        self._said_at = self._begun_at
        self._reason = ""

    def __call__(self, reason: str, progress: str = "") -> bool:
        """Takes the present reason of the wait, in words, and writes a line if one is due. Returns True if the reason
        is new. `progress`, for example `16 s of 60`, is added to repeated lines.
        """
        now = self._clock()
        is_new = reason != self._reason
        if is_new or now - self._said_at >= EVERY_S:
            still = "" if is_new else f"still waiting{f' ({progress})' if progress else ''}: "
            self._say(f"    {now - self._begun_at:3.0f} s  {still}{reason}")
            self._reason, self._said_at = reason, now
        return is_new
