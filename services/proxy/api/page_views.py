"""Prepares and renders the pages about canaries. Changes no state."""

import hashlib
from pathlib import Path

from services.proxy.api import format
from services.proxy.control.control_plane import ControlPlane
from services.proxy.control.envoy_loops import TrafficReader
from services.proxy.counting.request_counts import RequestCounts
from services.proxy.routes.edge import CATCH_ALL
from services.proxy.routes.rollout_evidence import TrafficFigures, figures
from services.proxy.routes.route import Route
from shared.config import SharedSettings
from shared.errors import Unavailable
from shared.models import Page, Track
from shared.web.pages import Templates
from shared.web.paging import page_of

HERE = "Canaries"
APPS_SHOWN = 50


class ProxyPages:
    """Renders the HTML pages about canaries. `hostname` is the host in the request's URL, which links to other
    services' pages use. Figures are from the last periodic reading of Envoy's access log, so a page needs neither Envoy
    nor Redis.
    """

    def __init__(
        self, control: ControlPlane, counts: RequestCounts, reader: TrafficReader, settings: SharedSettings
    ) -> None:
        self._control = control
        self._counts = counts
        self._reader = reader
        self._templates = Templates(Path(__file__).parent / "templates", settings)

    def overview(self, hostname: str | None, cursor: str | None = None) -> str:
        """Renders a list of 50 apps with their rollouts, active rollouts first. `cursor` is the value `next` of the
        page before (None: the first page).
        """
        problem, page = None, Page[Route](items=[])
        try:
            page = page_of(self._control.routes.values(), _order, APPS_SHOWN, cursor, newest_first=False)
        except Unavailable as error:
            problem = error.detail
        rows = [(route, self._figures(route)) for route in page.items]
        return self._templates.render(
            "rollouts.html", here=HERE, hostname=hostname, rows=rows, next=page.next, problem=problem, format=format
        )

    def rollout(self, app: str, hostname: str | None, *, problem: str | None = None, shown: str | None = None) -> str:
        """Renders the page of one app's rollout. `problem` is the reason why a requested change was refused. `shown` is
        the `key` of the page that the browser has: parts that have not changed since are left out, so that the browser
        keeps them as they are, with opened sections open. Raises NotFound if the app has no route.
        """
        route = self._control.route(app)
        instances = [(track, one) for track in Track for _, one in sorted(route.endpoints[track].items())]
        key, rollout = _key(route), route.rollout
        analysis = f"/releases/{rollout.release}/analysis" if rollout else "/"
        return self._templates.render(
            "rollout.html",
            here=HERE,
            hostname=hostname,
            route=route,
            rollout=rollout,
            analysis=self._templates.link(hostname, "monitor", analysis),
            traffic=self._figures(route),
            read_at=self._reader.read_at,
            instances=instances,
            hosts=sorted(route.claims - {CATCH_ALL}),
            now=self._control.now(),
            key=key,
            same=key == shown,
            problem=problem,
            format=format,
        )

    def _figures(self, route: Route) -> TrafficFigures:
        return figures(self._counts.view(route), route.weight)


def _order(route: Route) -> str:
    return f"{1 if route.active_rollout is None else 0}-{route.app}"


def _key(route: Route) -> str:
    """Returns a digest of everything that the page of the app's rollout shows, except traffic figures and instances."""
    shown = {"rollout": {"override_key"}}
    text = route.model_dump_json(include={"rollout", "earlier", "weight", "enabled", "hosts", "edge"}, exclude=shown)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
