"""Parses the proxy's traffic figures of all apps."""

from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from shared.models import Page
from shared.proxy_models import AppTraffic


class TrafficViews:
    """Parses answers of the proxy's `GET /traffic`. If the figures of an app have not changed since the last answer,
    returns the same object as then. A caller that stores many readings thus stores those of an idle app once, and can
    compare objects by identity.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[dict[str, Any], AppTraffic]] = {}

    def of(self, answer: Any, apps: Collection[str]) -> dict[str, AppTraffic | None]:
        """Returns app → figures, for those of `apps` that the answer has; None for figures that cannot be read. Raises
        ValidationError or KeyError if the answer is not in the proxy's format.
        """
        items = {item["app"]: item for item in Page[dict[str, Any]].model_validate(answer).items}
        self._last = {app: last for app, last in self._last.items() if app in items}
        return {app: self._view(app, items[app]) for app in apps if app in items}

    def _view(self, app: str, item: dict[str, Any]) -> AppTraffic | None:
        if app not in self._last or self._last[app][0] != item:
            try:
                self._last[app] = item, AppTraffic.model_validate(item)
            except ValidationError:
                return None
        return self._last[app][1]
