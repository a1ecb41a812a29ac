"""When each flag was last evaluated: kept in memory, written behind, so that dead flags are seen."""

from collections.abc import Callable
from datetime import datetime

from services.flags.change import FlagPlace
from services.flags.store import FlagStore
from shared.models import Environment

EVERY_FLAG = "*"  # no flag's key


class LastUsed:
    """An evaluation costs one entry of a dict. Readers of a plain mirror key in Redis leave no trace here."""

    def __init__(self, store: FlagStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._known: dict[FlagPlace, datetime] = {}
        self._unwritten: dict[FlagPlace, datetime] = {}

    def note(self, environment: Environment, key: str = EVERY_FLAG) -> None:
        """One flag was evaluated, or all at once."""
        self._unwritten[FlagPlace(environment, key)] = self._now()

    def last(self, environment: Environment, key: str) -> datetime | None:
        """By itself or among all."""
        times = [self.last_alone(environment, key), self.last_alone(environment, EVERY_FLAG)]
        return max((time for time in times if time), default=None)

    def last_alone(self, environment: Environment, key: str) -> datetime | None:
        """By itself: a client that fetches all flags at once says nothing about which it uses."""
        place = FlagPlace(environment, key)
        return self._unwritten.get(place) or self._known.get(place)

    async def write(self) -> None:
        """Writes what is new and reads what other copies of the service wrote. Of two copies the later writer wins, so
        a time may be off by one interval. Raises RedisError; then it stays to be written.
        """
        times = dict(self._unwritten)
        if times:
            await self._store.note_evaluated(times)
        self._known = await self._store.evaluated()
        self._unwritten = {place: at for place, at in self._unwritten.items() if times.get(place) != at}
