"""Records when each flag was last evaluated, so that people can find unused flags. Times are held in memory and written
later.
"""

import contextlib
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from services.flags.change import FlagId
from services.flags.store import FlagStore
from shared.models import Environment
from shared.store import RedisError

EVERY_FLAG = "*"  # stands for all flags; no flag has this key
MOST_KNOWN = 20_000


class LastUsed:
    """Records the time of each flag's last evaluation. That an app reads a flag's plain Redis key is not recorded,
    because the service does not see it.
    """

    def __init__(self, store: FlagStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._known: dict[FlagId, datetime] = {}
        self._unwritten: dict[FlagId, datetime] = {}

    def note(self, environment: Environment, key: str = EVERY_FLAG) -> None:
        """Records that one flag, or all flags (the default), are evaluated now."""
        self._unwritten[FlagId(environment, key)] = self._now()

    def last(self, environment: Environment, key: str) -> datetime | None:
        """Returns the time of the last evaluation of the flag, alone or together with all flags; None if there was
        none. The caller has to call `read` first, which gets the times that other instances of the service have
        written.
        """
        times = [self.last_alone(environment, key), self.last_alone(environment, EVERY_FLAG)]
        return max((time for time in times if time), default=None)

    def last_alone(self, environment: Environment, key: str) -> datetime | None:
        """Returns the time of the last evaluation of this flag alone; None if there was none. An evaluation of all
        flags together does not count, since its client may not use this flag.
        """
        flag_id = FlagId(environment, key)
        return self._unwritten.get(flag_id) or self._known.get(flag_id)

    async def read(self, keys: Collection[str]) -> None:
        """Reads, from the store, the times at which these flags were last evaluated in each environment. While Redis is
        down, the times known so far stay.
        """
        wanted = [FlagId(environment, key) for environment in Environment for key in (EVERY_FLAG, *keys)]
        with contextlib.suppress(RedisError):
            found = await self._store.evaluated(wanted)
            for flag_id in wanted:
                self._known.pop(flag_id, None)
            self._learn(found)

    async def write(self) -> None:
        """Writes new times to the store. If several instances of the service write, the last one wins, so a stored time
        may be too old by the time between two writes. Raises RedisError; the times are then kept for the next call.
        """
        times = dict(self._unwritten)
        await self._store.note_evaluated(times)
        self._learn(times)
        self._unwritten = {flag_id: at for flag_id, at in self._unwritten.items() if times.get(flag_id) != at}

    def _learn(self, times: Mapping[FlagId, datetime]) -> None:
        if len(self._known) > MOST_KNOWN:  # many may be deleted flags; entries of others are read again when needed
            self._known.clear()
        self._known.update(times)
