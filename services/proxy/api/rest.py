"""Serves the proxy's REST interface: rollouts, traffic, sync."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import Field, JsonValue

from services.proxy.api.page_views import ProxyPages
from services.proxy.control.envoy_loops import TrafficReader
from services.proxy.control.rollout_service import RolloutService
from services.proxy.control.sync import RegistrySync
from services.proxy.counting.visitor_log import FLUSHED_S, VisitorLog
from shared.models import AppName, Model, Page, View, release_number
from shared.proxy_models import (
    AppTraffic,
    RolloutAction,
    RolloutAdvance,
    RolloutRequest,
    RolloutState,
    RolloutView,
    StepAction,
    SyncRequest,
    SyncResult,
    TrafficView,
)
from shared.web.disconnect import while_connected
from shared.web.openapi import AS_PAGE, CONFLICT, NOT_IN_TIME, Responses
from shared.web.pages import wants_page
from shared.web.paging import Limit, NumberCursor, page_of

App = Annotated[AppName, Path(description="The app's name.", examples=["notes"])]
CHANGE: Responses = {**CONFLICT, **NOT_IN_TIME}
ACTION = Body(examples=[{"release": "notes-r9", "reason": "errors above 1 %"}])
MEASURED = {"rule": "errors", "metric": "error_share", "value": 0.12, "threshold": 0.01}
ABORT = Body(examples=[{"release": "notes-r9", "reason": "errors above 1 %", "evidence": MEASURED}])
STEP = Body(examples=[{"release": "notes-r9", "step": 0}])
PASSED = {"result": "pass", "score": 100, "reason": "errors are within 0.4 points", "at": "2026-01-01T00:02:00Z"}
ADVANCE = Body(examples=[{"release": "notes-r9", "step": 0, "verdict": PASSED}])
STEPS = [{"weight": 5, "for": "2m"}, {"weight": 33, "for": "10m"}]
OPEN = Body(
    examples=[
        {"release": "notes-r9", "weight": 33, "notify": ["mailto://team@example.com"]},
        {"release": "notes-r9", "canary": {"steps": STEPS, "promote": "automatic"}},
    ]
)
Seen = Annotated[
    str | None,
    Query(description="Digest of the page that the browser shows: 204 if it is still the same.", max_length=64),
]


class RolloutSettings(Model):
    """Request body of `PUT /apps/{app}/rollout`. A field that is left out keeps its value."""

    enabled: bool | None = Field(None, description="False gives the canary no share; its own port still serves it.")
    weight: int | None = Field(None, ge=0, le=100, description="Percent of new visitors that go to the canary.")


class EarlierRollout(View):
    """Describes a rollout before the app's current one. It has no `notify`, because addresses contain secrets."""

    release: str
    commit: str | None
    state: RolloutState
    reason: str
    opened_at: datetime
    at: datetime = Field(description="Time at which it ended.")
    evidence: dict[str, JsonValue]


def traffic_router(reader: TrafficReader, rollouts: RolloutService) -> APIRouter:
    routes = APIRouter()

    texts: dict[str, tuple[TrafficView, str]] = {}
    """App → its figures and, as JSON, its item of the answer."""

    async def answer() -> Response:
        views = await reader.views()
        for app in texts.keys() - views.keys():
            del texts[app]
        for app, view in views.items():
            if app not in texts or texts[app][0] is not view:  # neither the figures nor the route have changed
                item = AppTraffic(app=app, rollout=rollouts.view(app), **dict(view))
                texts[app] = view, item.model_dump_json()
        items = ",".join(texts[app][1] for app in sorted(texts))
        return Response(f'{{"items":[{items}],"next":null}}', media_type="application/json")

    @routes.get("/traffic", tags=["traffic"], summary="The traffic of all apps", response_model=Page[AppTraffic])
    async def all_traffic(request: Request) -> Any:
        """Returns, for every app, what `GET /apps/{app}/traffic` and `GET /apps/{app}/rollout` return, with a single
        reading of Envoy's access log. The answer is 503 if Envoy does not answer.
        """
        return await while_connected(request, answer())

    return routes


def router(
    sync: RegistrySync, rollouts: RolloutService, reader: TrafficReader, pages: ProxyPages, log: VisitorLog
) -> APIRouter:
    routes = APIRouter(prefix="/apps/{app}")

    @routes.post(
        "/sync",
        tags=["routes"],
        summary="Route the app's instances",
        response_model=SyncResult,
        responses=CHANGE,
    )
    async def post_sync(
        request: Request,
        app: App,
        body: Annotated[SyncRequest, Body(examples=[{"hosts": ["notes.example.com"], "health": "/up"}])],
    ) -> Any:
        """Stores hosts and health check, reads the app's instances from the registry, and answers when Envoy routes to
        them: ready instances are `routable`, draining ones get no new requests, drained ones are `absent`. The answer
        is 409 if another app has one of the hosts; 503 if the registry does not answer, and nothing was changed; 504 if
        Envoy has not confirmed within 5 s. In the last case the answer names what is missing, and the request can be
        repeated.
        """
        return await while_connected(request, sync.sync(app, body))

    @routes.delete("/route", tags=["routes"], summary="Remove the app's route", status_code=204, responses=CHANGE)
    async def delete_route(app: App) -> None:
        """Removes the app's hosts, clusters, rollouts and aborted releases and, when Envoy has accepted that, its lines
        in the log of requests. The deployer sends this request when the app's last environment is removed. It may be
        repeated. The answer is 409 if the registry has instances of the app, and 504 if Envoy has not confirmed within
        5 s; the request should then be repeated.
        """
        existed = await sync.remove(app)
        await log.forget(app, wait_s=FLUSHED_S if existed else 0)

    @routes.get(
        "/rollout",
        tags=["rollouts"],
        summary="The current rollout",
        response_model=RolloutView,
        responses=AS_PAGE,
    )
    async def get_rollout(request: Request, app: App, seen: Seen = None) -> Any:
        """Returns the app's current or last rollout. A rollout that has ended has its evidence: the measurements, the
        `traffic` at its end, and `ran_s`, the seconds that it ran. If `Accept` begins with `text/html`, the answer is a
        page.
        """
        if wants_page(request.headers.get("accept")):
            return HTMLResponse(pages.rollout(app, request.url.hostname, shown=seen))
        return rollouts.view(app)

    @routes.get("/rollouts", tags=["rollouts"], summary="The rollouts before the current one")
    async def get_rollouts(app: App, limit: Limit = 20, cursor: NumberCursor = None) -> Page[EarlierRollout]:
        """Returns the last 20 rollouts before the current one, newest first, each with its reason and evidence."""
        earlier = [EarlierRollout.model_validate(each.model_dump()) for each in rollouts.earlier(app)]
        return page_of(earlier, lambda each: release_number(each.release), limit, cursor)

    @routes.post("/rollout", tags=["rollouts"], summary="Open a rollout", responses=CHANGE)
    async def open_rollout(app: App, body: Annotated[RolloutRequest, OPEN]) -> RolloutView:
        """Opens the rollout of a canary release, which then gets the share of its first step. Without `canary`, it gets
        the fixed share `weight`, which only people change. The request may be repeated. An older active rollout is
        aborted with the reason `superseded`. The answer is 409 if the release was aborted, or is older than the release
        of the current rollout.
        """
        return await rollouts.open(app, body.release, body.weight, body.notify, body.canary, body.override_key)

    @routes.put("/rollout", tags=["rollouts"], summary="Set share, switch on or off", responses=NOT_IN_TIME)
    async def set_rollout(
        app: App, body: Annotated[RolloutSettings, Body(examples=[{"enabled": True, "weight": 10}])]
    ) -> RolloutView:
        """Sets the canary's share of new visitors (`weight`), and whether the canary gets a share at all (`enabled`),
        at once. A visitor who is with production or the canary stays there, as far as the new share allows. In a
        rollout with steps, the share holds for the current step only: the next step sets its own.
        """
        return await rollouts.set(app, body.enabled, body.weight)

    @routes.post("/rollout/abort", tags=["rollouts"], summary="Abort", responses=CHANGE)
    async def abort(app: App, body: Annotated[RolloutAction, ABORT]) -> RolloutView:
        """Takes the canary out of every route, for good, and answers when Envoy has accepted that. It needs neither
        Redis nor the deployer; the deployer retires the release later. The request may be repeated; the `evidence` of
        the first one is kept.
        """
        return await rollouts.abort(app, body.release, body.reason, body.evidence)

    @routes.post("/rollout/advance", tags=["rollouts"], summary="End a step by its analysis", responses=CHANGE)
    async def advance(app: App, body: Annotated[RolloutAdvance, ADVANCE]) -> RolloutView:
        """Ends the current step, whose time is over and which the canary analysis did not fail: begins the next step
        with its share or, if the step has a pause, pauses the rollout until a person resumes it. After the last step,
        the rollout is promoted if the manifest says `promote: automatic`. With `hold`, the step goes on, and the
        rollout shows why. The monitor sends this request, and may repeat it. The answer is 409 if the rollout is
        paused, is being promoted, has ended or has not begun the step.
        """
        return await rollouts.advance(app, body)

    @routes.post("/rollout/skip", tags=["rollouts"], summary="End a step now", responses=CHANGE)
    async def skip(app: App, body: Annotated[StepAction, STEP]) -> RolloutView:
        """Ends the current step at once, without its analysis and its pause, and begins the next one. After the last
        step, the rollout is promoted if the manifest says `promote: automatic`. The answer is 409 if no step is left,
        or if Slipway itself has paused the rollout. A repeated request ends a further step, unless it names its `step`.
        """
        return await rollouts.skip(app, body.release, body.reason, body.step)

    @routes.post("/rollout/resume", tags=["rollouts"], summary="Resume", responses=CHANGE)
    async def resume(app: App, body: Annotated[StepAction, STEP]) -> RolloutView:
        """Resumes a paused rollout. One that waits for a person at the end of a step begins the next step. The answer
        is 409 if the rollout has ended, or if Slipway itself has paused it, because it then also resumes it.
        """
        return await rollouts.resume(app, body.release, body.reason, body.step)

    @routes.post("/rollout/promote", tags=["rollouts"], summary="Promote", status_code=202, responses=CONFLICT)
    async def promote(app: App, body: Annotated[RolloutAction, ACTION]) -> RolloutView:
        """Requests the promotion and answers 202. Then the deployer releases the canary's build to production and
        retires the canary. `GET /apps/{app}/rollout` shows the result: state `promoted`, or `paused` with the reason if
        production refuses the build. The answer is 409 if the build skipped steps that production requires; `detail`
        says which, and what to do.
        """
        return await rollouts.promote(app, body.release)

    @routes.get(
        "/traffic",
        tags=["traffic"],
        summary="Requests, errors and latencies per track",
        response_model=TrafficView,
    )
    async def traffic(request: Request, app: App) -> Any:
        """Returns the app's counts of requests, for production (`stable`) and `canary`. Within one `epoch` they only
        grow; the epoch changes when the proxy service restarts, or when one of the two gets another release. While a
        rollout is open, `judged` has what the canary analysis compares. The answer is 503 if Envoy does not answer.
        """
        return await while_connected(request, reader.view(app))

    return routes
