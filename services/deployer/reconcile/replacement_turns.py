"""Limits how many environments at a time replace running instances that are unhealthy or outdated, because each start
of an instance slows down a busy machine.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from shared.runtime.backoff import backoff_s

AT_ONCE = 2  # each start takes a CPU core for a second or more, which slows down other instances
TURN_S = 60.0  # time for a start (30 s), the change of the route, and draining
LONGEST_WAIT_S = 600.0


@dataclass
class Turn:
    begun: float
    number: int
    """Number of turns that the environment has had, each within 20 minutes of the one before, with this one."""
    is_over: bool = False


class ReplacementTurns:
    """Gives environments turns, in which they may replace running instances. At most two have a turn at the same time.
    A turn ends when nothing is left to replace, or after 60 s. The next turn of the same environment begins at least 60
    s after its last turn began. This wait doubles with each further turn, up to 10 minutes, until the environment has
    had none for 20 minutes. `now` is in monotonic seconds.
    """

    def __init__(self) -> None:
        self._turns: dict[Hashable, Turn] = {}

    def may_replace(self, environment: Hashable, is_needed: bool, now: float) -> bool:
        """Returns True if it is the environment's turn. If the environment has instances to replace (`is_needed`) and a
        turn is free, its turn begins now.
        """
        turn = self._turns.get(environment)
        if turn is not None and not turn.is_over:
            turn.is_over = not is_needed or now - turn.begun >= TURN_S
        if turn is not None and not turn.is_over:
            return True
        in_a_row = turn.number if turn is not None and now - turn.begun < 2 * LONGEST_WAIT_S else 0
        wait_s = backoff_s(in_a_row, first_s=TURN_S, longest_s=LONGEST_WAIT_S) if in_a_row else 0.0
        is_waiting = turn is not None and now - turn.begun < wait_s
        others = [each for each in self._turns.values() if not each.is_over and now - each.begun < TURN_S]
        if not is_needed or is_waiting or len(others) >= AT_ONCE:
            return False
        self._turns[environment] = Turn(now, in_a_row + 1)
        return True
