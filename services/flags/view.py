"""Builds the JSON views of flags: a definition with what the service knows about the flag."""

import heapq
from datetime import datetime
from itertools import groupby, islice

from services.flags.cache import FlagCache
from services.flags.change import FlagId, flag_ids, tag
from services.flags.flag import Change, Definition, Flag
from services.flags.flag_set import ListPosition, position_of
from services.flags.last_used import LastUsed
from shared.errors import NotFound
from shared.models import Environment, Page, View


class FlagView(Definition):
    """Describes a flag in one environment. `evaluated_at` is the time of the last evaluation over OFREP, alone or with
    all flags; null if there was none. An app that reads the flag's plain key in Redis does not change `evaluated_at`,
    since the service does not see that.
    """

    key: str
    environment: Environment
    updated_at: datetime
    updated_by: str
    evaluated_at: datetime | None


class ChangeView(View):
    """Describes a change of a flag. `before` is null if the change created the flag, `after` if it deleted it."""

    id: str
    at: datetime
    actor: str
    environment: Environment
    before: Definition | None
    after: Definition | None


def change_view(entry_id: str, change: Change) -> ChangeView:
    given = change.model_dump(exclude={"before", "after"})
    return ChangeView(id=entry_id, **given, before=change.before, after=change.after)


class Views:
    """Builds views from the cache. Methods raise Unavailable before flags have been read from Redis for the first
    time.
    """

    def __init__(self, cache: FlagCache, last_used: LastUsed) -> None:
        self._cache = cache
        self._last_used = last_used

    async def page(self, environment: Environment, limit: int, cursor: str | None) -> Page[FlagView]:
        """Returns up to `limit` flags of the environment, last changed first. `cursor` is the value `next` of the page
        before (None: the first page).
        """
        before = None
        if cursor:
            changed_us, _, key = cursor.partition("-")
            before = ListPosition(int(changed_us), key)
        found = self._cache.flags(environment).page(limit + 1, before)
        shown = found[:limit]
        await self._last_used.read([flag.key for flag in shown])
        last = position_of(shown[-1]) if len(found) > limit else None
        return Page(items=[self._view(flag) for flag in shown], next=last and f"{last.changed_us}-{last.key}")

    async def one(self, key: str, environment: Environment | None) -> tuple[FlagView, str]:
        """Returns the flag and its ETag in `environment`. If that is None, returns the flag of the first environment
        that has it, and its ETag over all environments. Raises NotFound if there is no such flag.
        """
        await self._last_used.read([key])
        flags = self.everywhere(key)
        ids = [flag_id for flag_id in flag_ids(key, environment) if flag_id in flags]
        etag = tag(flags, ids)
        if etag is None:
            raise NotFound(
                f"there is no flag {key} in {environment or 'any environment'}; GET /flags lists those there are"
            )
        return self._view(flags[ids[0]]), etag

    def keys(self, after: str, containing: str, limit: int) -> list[str]:
        """Returns up to `limit` keys of flags in any environment, in order, that are greater than `after` and contain
        the text `containing`.
        """
        each = [self._cache.flags(environment).keys(after, containing) for environment in Environment]
        return list(islice((key for key, _ in groupby(heapq.merge(*each))), limit))

    def everywhere(self, key: str) -> dict[FlagId, Flag]:
        """Returns id → flag, for each environment that has the flag."""
        found = {flag_id: self._cache.flags(flag_id.environment).get(key) for flag_id in flag_ids(key, None)}
        return {flag_id: evaluator.flag for flag_id, evaluator in found.items() if evaluator}

    def _view(self, flag: Flag) -> FlagView:
        return FlagView(
            key=flag.key,
            environment=flag.environment,
            updated_at=flag.updated_at,
            updated_by=flag.updated_by,
            evaluated_at=self._last_used.last(flag.environment, flag.key),
            **flag.definition.model_dump(),
        )
