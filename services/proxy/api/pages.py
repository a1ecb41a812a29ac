"""Serves the proxy's HTML pages and their forms. Each form is answered with a redirect to the app's page."""

from collections.abc import Awaitable
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from services.proxy.api.page_views import ProxyPages
from services.proxy.api.rest import CHANGE, App
from services.proxy.control.rollout_service import RolloutService
from shared.canary import MOST_STEPS
from shared.errors import Invalid, NotFound, Problem
from shared.proxy_models import RolloutView
from shared.web.pages import wants_page
from shared.web.paging import NameCursor

Release = Annotated[
    str, Path(pattern=r"^[a-z][a-z0-9-]*-r\d+$", description="The rollout's id, which is its release's.")
]


def _form(name: str, most: int, example: int, *, required: bool) -> dict[str, Any]:
    """Returns the OpenAPI document of a form with one field, a whole number from 0 to `most`."""
    schema = {"type": "object", "properties": {name: {"type": "integer", "minimum": 0, "maximum": most}}}
    form = {"schema": schema | ({"required": [name]} if required else {}), "example": {name: example}}
    return {"requestBody": {"required": required, "content": {"application/x-www-form-urlencoded": form}}}


WEIGHT = _form("weight", 100, 10, required=True)
STEP = _form("step", MOST_STEPS, 0, required=False)


def pages_router(rollouts: RolloutService, pages: ProxyPages) -> APIRouter:
    router = APIRouter(tags=["pages"], default_response_class=RedirectResponse)

    async def answer(request: Request, app: str, change: Awaitable[RolloutView]) -> Response:
        """Awaits `change` and redirects to the page of the app's rollout (303). If `change` raises a Problem, answers
        with the page that shows the reason, and the Problem's status; a client that does not accept HTML gets the
        Problem itself.
        """
        try:
            await change
        except NotFound:
            raise
        except Problem as problem:
            if not wants_page(request.headers.get("accept")):
                raise
            return HTMLResponse(pages.rollout(app, request.url.hostname, problem=problem.detail), problem.status)
        return RedirectResponse(f"/apps/{app}/rollout", status_code=303)

    @router.get("/", response_class=HTMLResponse, summary="All canaries as a page")
    async def overview(request: Request, cursor: NameCursor = None) -> HTMLResponse:
        """Shows 50 apps with their rollouts: state, release, share of visitors, time and reason of the state."""
        return HTMLResponse(pages.overview(request.url.hostname, cursor))

    @router.post(
        "/apps/{app}/rollout/weight", status_code=303, summary="Set the share", responses=CHANGE, openapi_extra=WEIGHT
    )
    async def weight(request: Request, app: App) -> Response:
        """Sets the percentage of new visitors that get the canary, from the form field `weight`. Redirects to the app's
        page.
        """
        given = await _field(request, "weight")

        async def set_weight() -> RolloutView:
            if not (given.isdecimal() and len(given) <= 3 and int(given) <= 100):
                raise Invalid("weight", f"`{given}` is no share; give a whole number from 0 to 100")
            return await rollouts.set(app, None, int(given))

        return await answer(request, app, set_weight())

    @router.post("/apps/{app}/rollout/enable", status_code=303, summary="Switch the split on", responses=CHANGE)
    async def enable(request: Request, app: App) -> Response:
        """Gives the canary its set share of new visitors. Redirects to the app's page."""
        return await answer(request, app, rollouts.set(app, True, None))

    @router.post("/apps/{app}/rollout/disable", status_code=303, summary="Switch the split off", responses=CHANGE)
    async def disable(request: Request, app: App) -> Response:
        """Takes the share of visitors from the canary, without ending the rollout. Redirects to the app's page."""
        return await answer(request, app, rollouts.set(app, False, None))

    @router.post("/rollouts/{release}/abort", status_code=303, summary="Abort, from the page", responses=CHANGE)
    async def abort(request: Request, release: Release) -> Response:
        """Takes the canary out of every route, for good. Redirects to the app's page."""
        app = _app(release)
        return await answer(request, app, rollouts.abort(app, release, "", {}))

    @router.post(
        "/rollouts/{release}/resume",
        status_code=303,
        summary="Resume, from the page",
        responses=CHANGE,
        openapi_extra=STEP,
    )
    async def resume(request: Request, release: Release) -> Response:
        """Resumes the app's paused rollout, if its current step is still the one in the form field `step`. Redirects to
        the app's page.
        """
        app, given = _app(release), await _field(request, "step")

        async def resume_step() -> RolloutView:
            return await rollouts.resume(app, release, "", _step(given))

        return await answer(request, app, resume_step())

    @router.post(
        "/rollouts/{release}/skip",
        status_code=303,
        summary="End a step, from the page",
        responses=CHANGE,
        openapi_extra=STEP,
    )
    async def skip(request: Request, release: Release) -> Response:
        """Ends the rollout's current step, if it is still the one in the form field `step`. Redirects to the app's
        page.
        """
        app, given = _app(release), await _field(request, "step")

        async def skip_step() -> RolloutView:
            return await rollouts.skip(app, release, "", _step(given))

        return await answer(request, app, skip_step())

    @router.post("/rollouts/{release}/promote", status_code=303, summary="Promote, from the page", responses=CHANGE)
    async def promote(request: Request, release: Release) -> Response:
        """Starts to release the canary's build to production. Redirects to the app's page, which shows the progress."""
        app = _app(release)
        return await answer(request, app, rollouts.promote(app, release))

    return router


async def _field(request: Request, name: str) -> str:
    """Returns the value of a field of the submitted form; an empty text if the field is missing."""
    return parse_qs((await request.body()).decode(errors="replace")).get(name, [""])[0]


def _step(given: str) -> int | None:
    if not given:
        return None
    if not (given.isdecimal() and len(given) <= 3):
        raise Invalid("step", f"`{given}` is no step; give its number, 0 for the first")
    return int(given)


def _app(release: str) -> str:
    return release.rpartition("-r")[0]
