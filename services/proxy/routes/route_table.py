"""Holds the routes of all apps in memory, with indexes, so that a search does not have to read every route."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from services.proxy.routes.route import Endpoint, EndpointState, Route
from shared.models import Track


class RouteTable(Mapping[str, Route]):
    """Maps app → route, for all apps. `put` replaces a route and updates the indexes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes: dict[str, Route] = {}
        self._owners: dict[str, str] = {}
        self._busy: set[str] = set()
        self._claims: defaultdict[str, set[str]] = defaultdict(set)
        """Address → ids of the ready instances with a registry entry there."""
        self._unrecorded: defaultdict[str, set[str]] = defaultdict(set)
        """Address → apps with an endpoint there that has no registry entry."""
        for route in routes:
            self.put(route)

    def __getitem__(self, app: str) -> Route:
        return self._routes[app]

    def __iter__(self) -> Iterator[str]:
        return iter(self._routes)

    def __len__(self) -> int:
        return len(self._routes)

    def put(self, route: Route) -> None:
        """Adds the route, or replaces the app's route."""
        if before := self._routes.get(route.app):
            self._forget(before)
        self._routes[route.app] = route
        self._owners.update(dict.fromkeys(route.claims, route.app))
        (self._busy.add if route.is_busy else self._busy.discard)(route.app)
        for endpoint in _endpoints(route):
            if not endpoint.recorded:
                self._unrecorded[endpoint.address].add(route.app)
            elif endpoint.state is EndpointState.READY:
                self._claims[endpoint.address].add(endpoint.id)

    def remove(self, app: str) -> None:
        """Removes the app's route, if there is one."""
        if route := self._routes.pop(app, None):
            self._forget(route)
            self._busy.discard(app)

    def busy(self) -> list[Route]:
        """Returns the routes for which a background loop may have something to do: Envoy lacks the app's clusters, an
        endpoint drains, a rollout is active, or the deployer has not confirmed yet that it retired a release.
        """
        return [self._routes[app] for app in sorted(self._busy)]

    def owner_of(self, host: str) -> str | None:
        """Returns the app that has this host name; None if there is none."""
        return self._owners.get(host)

    def claimed(self, address: str) -> bool:
        """Returns True if the address belongs to a ready instance that has a registry entry."""
        return address in self._claims

    def replaced(self) -> list[Route]:
        """Returns the routes with an endpoint that has no registry entry and whose address now belongs to another,
        ready instance.
        """
        apps = {app for address in self._unrecorded.keys() & self._claims.keys() for app in self._unrecorded[address]}
        return [self._routes[app] for app in sorted(apps)]

    def _forget(self, route: Route) -> None:
        for host in route.claims:
            self._owners.pop(host, None)
        for endpoint in _endpoints(route):
            _discard(self._unrecorded, endpoint.address, route.app)
            _discard(self._claims, endpoint.address, endpoint.id)


def _endpoints(route: Route) -> list[Endpoint]:
    return [endpoint for track in Track for endpoint in route.endpoints[track].values()]


def _discard(index: dict[str, set[str]], key: str, value: str) -> None:
    if key in index:
        index[key].discard(value)
        if not index[key]:
            del index[key]
