"""Serves the last and the slowest requests of an app, from Envoy's log of requests."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from services.proxy.api.page_views import ProxyPages
from services.proxy.api.rest import App
from services.proxy.control.control_plane import ControlPlane
from services.proxy.counting.visitor_log import LoggedRequest, RequestOrder, VisitorLog
from shared.models import Page
from shared.web.openapi import AS_PAGE
from shared.web.pages import wants_page
from shared.web.paging import Limit

Sort = Annotated[
    RequestOrder,
    Query(description="`newest`: those that ended last. `slowest`: those that waited longest for their answer."),
]


def requests_router(control: ControlPlane, log: VisitorLog, pages: ProxyPages) -> APIRouter:
    routes = APIRouter()

    @routes.get(
        "/apps/{app}/requests",
        tags=["traffic"],
        summary="The last or the slowest requests",
        response_model=Page[LoggedRequest],
        responses=AS_PAGE,
    )
    async def get_requests(request: Request, app: App, sort: Sort = RequestOrder.NEWEST, limit: Limit = 20) -> Any:
        """Returns requests of the app's visitors that have ended, as far back as the log reaches
        (`SLIPWAY_REQUEST_LOG_MB`); `next` is always null. A request is in the log up to 0.25 s after it has ended. If
        `Accept` begins with `text/html`, the answer is a page. The answer is 503 if the log is switched off.
        """
        control.route(app)
        found = await log.find(app, sort, limit)
        if wants_page(request.headers.get("accept")):
            return HTMLResponse(pages.requests(app, request.url.hostname, found, sort))
        return Page(items=found)

    return routes
