"""Defines the REST routes of canary analyses, and of apps' own metrics and hooks."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import HTMLResponse

from services.monitor.api.analysis_view import AnalysisView, analysis_view
from services.monitor.checks.analysis_settings import AnalysisBody, AnalysisSettings
from services.monitor.checks.own_checks import OwnChecks
from services.monitor.evidence.recorder import EvidenceRecorder
from shared.errors import Invalid, NotFound
from shared.models import AppName
from shared.security.outgoing import AddressGuard, AddressRefused
from shared.web.openapi import AS_PAGE
from shared.web.pages import wants_page

AnalysisPage = Callable[[AnalysisView, str | None], str]
EXAMPLE = {
    "metrics": [
        {"name": "checkout-rate", "url": "https://metrics.example.com/checkout?release=canary", "at_least": 0.95}
    ],
    "hooks": [
        {"name": "smoke", "when": "before", "url": "https://ci.example.com/smoke", "headers": {"X-Key": "secret"}}
    ],
}


def analyses_router(recorder: EvidenceRecorder, checks: OwnChecks, page: AnalysisPage) -> APIRouter:
    """Returns the router for requests about canary analyses. `page` renders an analysis for a browser; it gets the
    hostname in the request's URL, for links.
    """
    router = APIRouter(tags=["analyses"])

    @router.get(
        "/releases/{id}/analysis",
        response_model=AnalysisView,
        summary="What the analysis of a canary found",
        responses=AS_PAGE,
    )
    async def get_analysis(request: Request, id: str) -> Any:
        """Returns the verdict about the canary with its figures: the evidence for each kind of harm, counts, steps of
        the rollout, requests that did not count, and a series of production and canary over time. The analysis is kept
        for 30 days after the rollout. If `Accept` begins with `text/html`, the answer is a page. The answer is 404 if
        the release had no rollout.
        """
        found = await recorder.read(id)
        if found is None:
            raise NotFound(f"no analysis of {id} is kept; only canaries have one, for 30 days after their rollout")
        view = analysis_view(*found, checks.states(id))
        if wants_page(request.headers.get("accept")):
            return HTMLResponse(page(view, request.url.hostname))
        return view

    return router


def own_checks_router(checks: OwnChecks, guard: AddressGuard) -> APIRouter:
    """Returns the router for requests about apps' own metrics and hooks. `guard` decides which addresses they may
    have.
    """
    router = APIRouter(prefix="/apps/{app}/analysis", tags=["analyses"])

    @router.get("", summary="An app's own metrics and hooks")
    async def get_checks(app: AppName) -> AnalysisSettings:
        """Returns the metrics and hooks that the app's canaries are judged by in addition to their requests. The values
        of headers are null. The answer is 404 if none are set.
        """
        if (found := (await checks.load()).get(app)) is None:
            raise _not_found(app)
        return found.shown()

    @router.put("", summary="Set an app's own metrics and hooks")
    async def put_checks(app: AppName, body: Annotated[AnalysisBody, Body(examples=[EXAMPLE])]) -> AnalysisSettings:
        """Replaces all metrics and hooks of the app; it applies at once, also to an open rollout. Addresses must lead
        to the internet, unless SLIPWAY_ALLOW_ADDRESSES allows them. Values of headers are encrypted, and never shown: a
        null keeps the value that is set, as long as the call goes to the same host.
        """
        for place, calls in (("metrics", body.metrics), ("hooks", body.hooks)):
            for number, call in enumerate(calls):
                try:
                    guard.check(call.host)
                except AddressRefused as error:
                    raise Invalid(f"{place}.{number}.url", str(error)) from error
        return (await checks.put(app, body)).shown()

    @router.delete("", summary="Delete an app's own metrics and hooks", status_code=204)
    async def delete_checks(app: AppName) -> Response:
        """Deletes all metrics and hooks of the app; an open rollout is judged by its requests alone."""
        if not await checks.delete(app):
            raise _not_found(app)
        return Response(status_code=204)

    return router


def _not_found(app: str) -> NotFound:
    return NotFound(f"{app} has no metrics or hooks of its own; PUT sets them")
