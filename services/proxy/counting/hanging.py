"""Decides how long a request may wait for its answer before it counts as hanging. Pure."""

from collections import deque

SHORTEST_MS = 3_000.0
SHORTEST_WITHOUT_ROLLOUT_MS = 60_000.0
TIMES = 2
MINUTES = 10
REMEMBERED = 10_000


class HangWatch:
    """Remembers, for one app, the longest time that production took to begin an answer, for each of the last 10
    minutes, and which requests were counted as hanging. A request hangs if it has waited for its answer more than twice
    the longest of these times, and more than 3 s with an open rollout or 60 s without one (nothing is compared then,
    and long polls are no errors).
    """

    def __init__(self) -> None:
        self._longest: deque[tuple[int, int]] = deque(maxlen=MINUTES)
        """(minute, longest time to first byte in it, in microseconds), oldest first."""
        self._hanging: dict[str, None] = {}

    def answered(self, first_byte_us: int, at_s: float) -> None:
        """Records that production took `first_byte_us` microseconds to begin an answer, at the time `at_s` (seconds
        since 1970).
        """
        minute = int(at_s // 60)
        last, longest = self._longest[-1] if self._longest else (minute - 2, 0)
        if minute in (last, last - 1):  # lines of two threads may be a little out of order
            if first_byte_us > longest:
                self._longest[-1] = last, first_byte_us
        else:
            self._longest.append((minute, first_byte_us))

    def limit_ms(self, at_s: float, *, rollout_is_open: bool) -> float:
        """Returns how many milliseconds a request may wait for its answer, at the time `at_s` (seconds since 1970),
        before it counts as hanging.
        """
        since = at_s // 60 - MINUTES
        longest_us = max((longest for minute, longest in self._longest if minute > since), default=0)
        return max(SHORTEST_MS if rollout_is_open else SHORTEST_WITHOUT_ROLLOUT_MS, TIMES * longest_us / 1000)

    def begins(self, key: str) -> bool:
        """Returns True if the request `key` was not known to hang yet, and remembers that it hangs. At most 10 000
        requests are remembered; the oldest are forgotten first.
        """
        if key in self._hanging:
            return False
        if len(self._hanging) >= REMEMBERED:
            del self._hanging[next(iter(self._hanging))]
        self._hanging[key] = None
        return True

    def ends(self, key: str) -> bool:
        """Returns True if the request `key` was known to hang, and forgets it."""
        if key not in self._hanging:
            return False
        del self._hanging[key]
        return True
