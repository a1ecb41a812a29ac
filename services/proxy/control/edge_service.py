"""Changes the edge settings of apps: which host names they have, and which of their paths other apps get."""

import asyncio
import re

from services.proxy.control.control_plane import ControlPlane
from services.proxy.routes.edge import CATCH_ALL, EdgeSettings, MappedPath
from services.proxy.routes.host_names import WILDCARD, checked
from shared.errors import Conflict, Invalid

CONFIRM_S = 5.0
SETTLE_S = 0.01
_PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")


class EdgeService:
    """Serves and replaces the edge settings of apps that have a route. Each app has the host name `<app>.<domain>`
    besides them.
    """

    def __init__(self, control: ControlPlane, domain: str) -> None:
        self._control = control
        self._domain = domain

    def settings(self, app: str) -> EdgeSettings:
        """Returns the app's settings. Raises NotFound if it has no route."""
        return self._control.route(app).edge

    async def put(self, app: str, asked: EdgeSettings) -> EdgeSettings:
        """Replaces the app's settings and returns them, with host names and paths in their normal form, when Envoy has
        accepted them. Raises NotFound if the app has no route, Invalid if a host name or path is not allowed, and
        Conflict if another app has a host name or the unknown ones; in all these cases nothing is changed. Raises
        Timeout if Envoy has not accepted the change within 5 s; it is stored all the same, and the call may be
        repeated.
        """
        settings = self._checked(app, asked)
        self._control.put(self._control.route(app).model_copy(update={"edge": settings}))
        await self._control.confirm(app, CONFIRM_S)
        await asyncio.sleep(SETTLE_S)  # the admin reports the main thread; Envoy's workers follow it within 6 ms
        return settings

    def _checked(self, app: str, asked: EdgeSettings) -> EdgeSettings:
        routes = self._control.routes
        self._control.route(app)
        hosts = {checked(f"hosts.{n}", host, app, self._domain, routes) for n, host in enumerate(asked.hosts)}
        canonical = asked.canonical_host
        if canonical:
            canonical = checked("canonical_host", canonical, app, self._domain, routes)
        if canonical.startswith(WILDCARD):
            raise Invalid("canonical_host", f"{canonical} stands for many host names; give one of them")
        owner = routes.owner_of(CATCH_ALL)
        if asked.catch_all and owner not in (None, app):
            raise Conflict(f"app {owner} has the unknown host names; set its `catch_all` to false first", app=owner)
        paths = [self._checked_path(number, path) for number, path in enumerate(asked.paths)]
        for number, path in enumerate(paths):
            if any(path.prefix == other.prefix for other in paths[:number]):
                raise Invalid(f"paths.{number}.prefix", f"{path.prefix} is there twice; take one out")
        changes = {"hosts": sorted(hosts), "canonical_host": canonical, "paths": paths}
        return asked.model_copy(update=changes)

    def _checked_path(self, number: int, path: MappedPath) -> MappedPath:
        prefix = path.prefix.removesuffix("/")
        if not _PREFIX.fullmatch(prefix):
            raise Invalid(
                f"paths.{number}.prefix",
                f"`{path.prefix}` is not a path that can be mapped; write it like /api or /docs/v2, of letters, digits "
                "and . _ ~ -",
            )
        if path.app not in self._control.routes:
            raise Invalid(f"paths.{number}.app", f"no release of {path.app} has been routed yet; release it first")
        return path.model_copy(update={"prefix": prefix})
