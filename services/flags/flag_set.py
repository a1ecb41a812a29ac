"""Holds the flags of one environment in memory. The cost of a change does not depend on the number of flags."""

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

from services.flags.evaluation import FlagEvaluator
from services.flags.flag import Flag

EPOCH = datetime.fromtimestamp(0, UTC)


class ListPosition(NamedTuple):
    """Holds a flag's position in the list of flags, which is ordered by last change: the time of that change in
    microseconds since 1970, then the key.
    """

    changed_us: int
    key: str


def position_of(flag: Flag) -> ListPosition:
    return ListPosition((flag.updated_at - EPOCH) // timedelta(microseconds=1), flag.key)


class FlagSet:
    """Holds the flags of one environment, ready for evaluation. `put` and `remove` change it without reading other
    flags.
    """

    def __init__(self) -> None:
        self._evaluators: dict[str, FlagEvaluator] = {}
        self._keys: list[str] = []
        self._by_change: list[ListPosition] = []
        self._newest_first: Sequence[FlagEvaluator] | None = ()
        self._sum = 0

    def put(self, evaluator: FlagEvaluator) -> None:
        """Adds the flag, or replaces the flag with the same key."""
        flag = evaluator.flag
        self.remove(flag.key)
        self._evaluators[flag.key] = evaluator
        insort(self._keys, flag.key)
        insort(self._by_change, position_of(flag))
        self._sum += evaluator.fingerprint

    def remove(self, key: str) -> None:
        """Removes the flag with this key, if there is one."""
        self._newest_first = None
        if evaluator := self._evaluators.pop(key, None):
            del self._keys[bisect_left(self._keys, key)]
            del self._by_change[bisect_left(self._by_change, position_of(evaluator.flag))]
            self._sum -= evaluator.fingerprint

    @property
    def digest(self) -> str:
        """Returns a hash of all definitions, made from the sum of the flags' own hashes. All instances of the service
        compute the same one.
        """
        return hashlib.sha256(str(self._sum % 2**256).encode()).hexdigest()[:20]

    def get(self, key: str) -> FlagEvaluator | None:
        return self._evaluators.get(key)

    def newest_first(self) -> Sequence[FlagEvaluator]:
        """Returns all flags, last changed first. Later changes do not affect the returned list."""
        if self._newest_first is None:
            self._newest_first = [self._evaluators[position.key] for position in reversed(self._by_change)]
        return self._newest_first

    def page(self, limit: int, before: ListPosition | None) -> list[Flag]:
        """Returns up to `limit` flags, last changed first, that come after the position `before` (None: from the first
        one on).
        """
        end = len(self._by_change) if before is None else bisect_left(self._by_change, before)
        return [self._evaluators[each.key].flag for each in reversed(self._by_change[max(0, end - limit) : end])]

    def by_key(self) -> list[FlagEvaluator]:
        """Returns all flags, sorted by key."""
        return [self._evaluators[key] for key in self._keys]

    def keys(self, after: str, containing: str) -> Iterator[str]:
        """Yields, in order, the keys that are greater than `after` and contain the text `containing`, ignoring case.
        The set must not be changed during that.
        """
        text = containing.lower()
        return (key for key in islice(self._keys, bisect_right(self._keys, after), None) if text in key.lower())
