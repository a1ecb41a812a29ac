"""Prepares and renders the pages about flags. Changes no state."""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from services.flags.change import FlagId, flag_ids, tag
from services.flags.diff import Difference, differences
from services.flags.flag import Change, Flag, mirror_key, plain_value, rules_aside
from services.flags.last_used import LastUsed
from services.flags.view import Views
from shared.config import SharedSettings
from shared.errors import NotFound
from shared.models import Environment
from shared.web.pages import Templates

HISTORY_SHOWN = 20
FLAGS_SHOWN = 50


class Panel(NamedTuple):
    """Describes one flag in one environment, as the page shows it. `flag` is None if the environment does not have the
    flag.
    """

    environment: Environment
    flag: Flag | None
    seen: str
    """ETag without quotes. The form of the switch sends it, so that the switch is refused if the flag has changed
    since.
    """
    value: str
    """Text that the flag's Redis keys hold, or `no key`."""
    rules: str
    """Targeting rules as JSON; empty if there are none."""
    aside: bool
    """True if the targeting rules are disabled (`rules=aside`)."""
    mirrors: list[str]
    """Names of the Redis keys that hold the flag's value."""
    evaluated: datetime | None
    """Time of the flag's last evaluation, alone or with all flags, rounded down to 10 s; None if there was none."""
    evaluated_alone: datetime | None
    """Time of the flag's last evaluation alone, rounded down to 10 s; None if there was none."""


class HistoryEntry(NamedTuple):
    change: Change
    differences: list[Difference]


class FlagPages:
    """Renders the pages about flags as HTML. `hostname` is the host in the request's URL, which links to other
    services' pages use. `seen` is the digest of the page that the browser shows; methods return None if the page would
    be the same.
    """

    def __init__(self, views: Views, last_used: LastUsed, settings: SharedSettings) -> None:
        self._views = views
        self._last_used = last_used
        self._settings = settings
        self._templates = Templates(Path(__file__).parent / "templates", settings)

    async def overview(self, search: str, cursor: str, seen: str | None, hostname: str | None) -> str | None:
        """Renders one page of the list of flags whose keys contain `search`, in all environments, sorted by key.
        `cursor` is the last key of the page before, or empty.
        """
        keys = self._views.keys(cursor, search, FLAGS_SHOWN + 1)
        shown = keys[:FLAGS_SHOWN]
        await self._last_used.read(shown)
        flags = [(key, self._panels(key)) for key in shown]
        return self._unless_seen(
            seen,
            "flags.html",
            hostname,
            flags=flags,
            search=search,
            here_query=list_query(search, cursor),
            next_query=list_query(search, shown[-1]) if len(keys) > len(shown) else "",
            url=self._settings.outside_url("flags"),
        )

    async def flag(
        self, key: str, changes: list[tuple[str, Change]], newest: bool, seen: str | None, hostname: str | None
    ) -> str | None:
        """Renders one flag with one page of its history. `changes` holds (id, change), newest first; `newest` is True
        on the first page. Raises NotFound if the flag has never existed.
        """
        await self._last_used.read([key])
        panels = self._panels(key)
        if not changes and not any(panel.flag for panel in panels):
            raise NotFound(f"there has never been a flag {key}; the page / lists those there are")
        entries = [HistoryEntry(change, differences(change)) for _, change in changes]
        following = changes[-1][0] if len(changes) == HISTORY_SHOWN else None
        return self._unless_seen(
            seen, "flag.html", hostname, key=key, panels=panels, history=entries, following=following, newest=newest
        )

    def problem(self, title: str, detail: str, key: str, hostname: str | None) -> str:
        """Renders the page that says why a flag was not switched to another variant."""
        return self._render("problem.html", hostname, title=title, detail=detail, key=key)

    def _unless_seen(self, seen: str | None, template: str, hostname: str | None, **context: Any) -> str | None:
        digest = hashlib.sha256(repr(context).encode()).hexdigest()[:16]
        return None if seen == digest else self._render(template, hostname, digest=digest, **context)

    def _panels(self, key: str) -> list[Panel]:
        flags = self._views.everywhere(key)
        return [self._panel(flag_id, flags.get(flag_id)) for flag_id in flag_ids(key, None)]

    def _panel(self, flag_id: FlagId, flag: Flag | None) -> Panel:
        definition = flag.definition if flag else None
        aside = rules_aside(definition.targeting) if definition else None
        rules = aside or (definition.targeting if definition else None)
        value = plain_value(definition)
        named = definition.mirror if definition and flag_id.environment == Environment.PRODUCTION else None
        return Panel(
            flag_id.environment,
            flag,
            seen=(tag({flag_id: flag}, [flag_id]) or "").strip('"') if flag else "",
            value=value if value is not None else "no key",
            rules=json.dumps(rules, indent=2, ensure_ascii=False) if rules else "",
            aside=aside is not None,
            mirrors=[mirror_key(*flag_id), *([named] if named else [])],
            evaluated=_coarse(self._last_used.last(*flag_id)),
            evaluated_alone=_coarse(self._last_used.last_alone(*flag_id)),
        )

    def _render(self, template: str, hostname: str | None, **context: Any) -> str:
        return self._templates.render(template, here="Flags", hostname=hostname, **context)


def list_query(search: str, cursor: str) -> str:
    """Returns the query of the URL of the list's page with this search text and cursor; empty ones are left out."""
    return urlencode({name: value for name, value in (("search", search), ("cursor", cursor)) if value})


def _coarse(at: datetime | None) -> datetime | None:
    """Returns the time rounded down to ten seconds, so that not every evaluation changes the page; None for None."""
    return at and at.replace(second=at.second // 10 * 10, microsecond=0)
