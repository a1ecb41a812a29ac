"""Last evaluation of each flag, to find unused flags: kept in memory, written behind."""

from collections.abc import Callable
from datetime import datetime

from services.flags.change import FlagId
from services.flags.store import FlagStore
from shared.models import Environment

EVERY_FLAG = "*"  # no flag's key


class LastUsed:
    """Records evaluations at the cost of one dict entry each. Reading a plain mirror key in Redis leaves no
    trace here.
    """

    def __init__(self, store: FlagStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._known: dict[FlagId, datetime] = {}
        self._unwritten: dict[FlagId, datetime] = {}

    def note(self, environment: Environment, key: str = EVERY_FLAG) -> None:
        """Records that one flag was evaluated, or all at once."""
        self._unwritten[FlagId(environment, key)] = self._now()

    def last(self, environment: Environment, key: str) -> datetime | None:
        """Returns when the flag was last evaluated, by itself or among all."""
        times = [self.last_alone(environment, key), self.last_alone(environment, EVERY_FLAG)]
        return max((time for time in times if time), default=None)

    def last_alone(self, environment: Environment, key: str) -> datetime | None:
        """Returns when it was last evaluated by itself: a client that fetches all flags does not show which it uses."""
        flag_id = FlagId(environment, key)
        return self._unwritten.get(flag_id) or self._known.get(flag_id)

    async def write(self) -> None:
        """Writes new times and reads those of other copies of the service.

        Of two copies the later writer wins, so a time may be off by one interval. Raises RedisError, and then keeps the
        times for the next try.
        """
        times = dict(self._unwritten)
        if times:
            await self._store.note_evaluated(times)
        self._known = await self._store.evaluated()
        self._unwritten = {flag_id: at for flag_id, at in self._unwritten.items() if times.get(flag_id) != at}
