"""Counts the requests of all apps from the lines of Envoy's access log. Pure."""

import secrets
from collections.abc import Callable, Iterable, Mapping

from services.proxy.counting.app_counts import AppCounts, releases_of
from services.proxy.counting.hanging import HangWatch
from services.proxy.counting.log_line import PAGE, app_of, is_answering, is_sampled, parse, split
from services.proxy.routes.route import Route
from shared.proxy_models import TrafficView

MOST_LINES_PER_S = 4_000
LARGEST_SAMPLING = 16


def sampling(lines_per_s: float) -> int:
    """Returns n (1, 2, 4, 8 or 16): when Envoy writes `lines_per_s` lines a second to its access log, only one visitor
    in n is counted, to limit the work to that for about 4 000 lines a second.
    """
    one_in = 1
    while one_in < LARGEST_SAMPLING and lines_per_s > MOST_LINES_PER_S * one_in:
        one_in *= 2
    return one_in


class RequestCounts:
    """Counts requests, errors and latencies of each app, separately for its tracks (production and canary). A request
    counts for the track to which its visitor was assigned, even if the other one answered. An app's counts start at 0,
    with a new epoch (an id from `new_epoch`), when a track gets another release. `unreadable` is the number of
    access-log lines that could not be parsed.
    """

    def __init__(self, new_epoch: Callable[[], str] = lambda: secrets.token_hex(4)) -> None:
        self._new_epoch = new_epoch
        self._apps: dict[str, AppCounts] = {}
        self.unreadable = 0

    def forget(self, app: str) -> None:
        """Drops the app's counts."""
        self._apps.pop(app, None)

    def add(self, lines: Iterable[str], routes: Mapping[str, Route], one_in: int = 1) -> None:
        """Counts the requests in these lines of Envoy's access log. `routes` holds app → route; lines of other apps do
        not count. Only one visitor in `one_in` is counted, and each of their requests stands for `one_in`.
        """
        for text in lines:
            fields = split(text)
            if fields is None:
                self.unreadable += 1
            elif is_answering(fields):
                continue
            elif is_sampled(fields, one_in):
                self._add(fields, routes, one_in)
            else:
                self._leave_out(app_of(fields))

    def view(self, route: Route) -> TrafficView:
        """Returns the app's traffic figures since its counts last began at 0. While neither the figures nor the route
        change, returns the same object.
        """
        return self._counts(route).view()

    def _add(self, fields: list[str], routes: Mapping[str, Route], one_in: int) -> None:
        try:
            line = parse(fields)
        except ValueError:
            self.unreadable += 1
            return
        route = routes.get(line.app)
        if route is not None and line.kind != PAGE and not line.is_refused:
            self._counts(route).add(line, one_in)

    def _leave_out(self, app: str) -> None:
        if counts := self._apps.get(app):
            counts.leave_out()

    def _counts(self, route: Route) -> AppCounts:
        counts = self._apps.get(route.app)
        if counts is None or (counts.route is not route and counts.releases != releases_of(route)):
            hangs = counts.hangs if counts else HangWatch()
            counts = self._apps[route.app] = AppCounts(self._new_epoch(), route, hangs)
        elif counts.route is not route:
            counts.follow(route)
        return counts
