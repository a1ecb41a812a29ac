"""Creates the content of Envoy's files from the apps' routes, as JSON text. Pure."""

import hashlib
import json
from collections import defaultdict

from services.proxy.envoy.bootstrap import CDS_FILE
from services.proxy.envoy.clusters import Json, clusters, eds_file, endpoints
from services.proxy.envoy.routes import LISTENERS, rds_file, route_configuration
from services.proxy.envoy.virtual_hosts import NO_CATCH_ALL, virtual_hosts
from services.proxy.routes.route import Route
from shared.models import Track

RDS_FILES = {rds_file(listener): listener for listener in LISTENERS}
SHARED_FILES = (CDS_FILE, *RDS_FILES)


class Configuration:
    """Holds the content of Envoy's files. It is put together from one part for each app, so that a change of one app
    renders only that app, and those that map paths to it.
    """

    def __init__(self) -> None:
        self._parts: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._routes: dict[str, Route] = {}
        self._mapping: set[str] = set()
        """Apps that map paths to other apps."""
        self._catch_alls: set[str] = set()

    def put(self, route: Route) -> set[str]:
        """Replaces the part of the route's app in every file; returns the names of the files whose content this
        changes.
        """
        self._routes[route.app] = route
        (self._mapping.add if route.edge.paths else self._mapping.discard)(route.app)
        (self._catch_alls.add if route.edge.catch_all and route.clusters else self._catch_alls.discard)(route.app)
        return self._replace(route).union(*map(self._replace, self._mapping_to(route.app)))

    def remove(self, app: str) -> None:
        """Removes the app's part of the configuration."""
        self._routes.pop(app, None)
        self._mapping.discard(app)
        self._catch_alls.discard(app)
        for parts in self._parts.values():
            parts.pop(app, None)
        for route in self._mapping_to(app):
            self._replace(route)

    def document(self, name: str) -> tuple[str, str]:
        """Returns the file's version (a hash of its content) and its text."""
        parts = [part for _, part in sorted(self._parts[name].items()) if part]
        if name in RDS_FILES:
            hosts = parts if self._catch_alls else [*parts, _text(NO_CATCH_ALL)]
            head = _text(route_configuration(RDS_FILES[name])).removesuffix("}")
            parts = [f'{head},"virtual_hosts":[\n' + ",\n".join(hosts) + "\n]}"]
        resources = ",\n".join(parts)
        version = hashlib.sha256(resources.encode()).hexdigest()[:12]
        return version, f'{{"version_info":"{version}","resources":[\n{resources}\n]}}\n'

    def _mapping_to(self, app: str) -> list[Route]:
        """Returns the routes of the other apps that map paths to this one."""
        others = [self._routes[each] for each in sorted(self._mapping) if each != app]
        return [other for other in others if any(path.app == app for path in other.edge.paths)]

    def _replace(self, route: Route) -> set[str]:
        changed = {name: part for name, part in self._render(route).items() if self._parts[name].get(route.app) != part}
        for name, part in changed.items():
            self._parts[name][route.app] = part
        return set(changed)

    def _render(self, route: Route) -> dict[str, str]:
        resources = {eds_file(route.app, track): endpoints(route, track) for track in Track}
        resources[CDS_FILE] = clusters(route)
        for name, listener in RDS_FILES.items():  # Envoy refuses routes to clusters that it has not loaded
            resources[name] = virtual_hosts(listener, route, self._routes) if route.clusters else []
        return {name: ",\n".join(map(_text, found)) for name, found in resources.items()}


def in_writing_order(names: set[str]) -> list[str]:
    """Returns the names of files in the order of writing: a file comes before those that refer to its content."""
    return [*sorted(names - set(SHARED_FILES)), *(name for name in SHARED_FILES if name in names)]


def _text(resource: Json) -> str:
    return json.dumps(resource, separators=(",", ":"))
