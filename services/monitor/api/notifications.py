"""Defines the REST routes of deliveries, notifiers and silences."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

from services.monitor.dispatch.delivery import DeliveryView, MessageDeliveryState
from services.monitor.dispatch.outbox_store import OutboxStore
from services.monitor.notify.message import compose
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.notify.recipients import NotifierList, NotifierName, NotifierView, Recipients, TestResult
from services.monitor.notify.silence import Silence, SilenceBody, new_silence
from shared.clock import now
from shared.errors import Invalid, NotFound
from shared.models import Model, Page
from shared.web.paging import Limit, TimeCursor, cut, page_of, time_key

NOTIFIERS_EXAMPLE = {
    "items": [{"name": "team", "url": "mailto://user:password@smtp.example.com/?to=team@example.com", "events": []}]
}
SILENCE_EXAMPLE = {"app": "notes", "environment": "canary", "duration_s": 3600, "reason": "load test"}


class TestRequest(Model):
    name: NotifierName | None = None


def deliveries_router(store: OutboxStore) -> APIRouter:
    router = APIRouter(tags=["notifications"])

    @router.get("/deliveries", summary="Messages and the state of their delivery")
    async def list_deliveries(
        app: str | None = None,
        state: MessageDeliveryState | None = None,
        limit: Annotated[int, Query(ge=1, le=500, description="Largest number of items to return.")] = 100,
        cursor: TimeCursor = None,
    ) -> Page[DeliveryView]:
        """Lists deliveries, one for each message and recipient, newest first: the last 500, and all that have not ended
        yet.
        """
        found = await store.deliveries(limit=limit + 1, before=cursor, app=app, state=state)
        views = [DeliveryView.model_validate(each.model_dump()) for each in found]
        return cut(views, limit, lambda view: time_key(view.created_at, view.id))

    return router


def notifiers_router(recipients: Recipients, monitor_url: str) -> APIRouter:
    router = APIRouter(prefix="/notifiers", tags=["notifications"])

    @router.get("", summary="Notifiers, who get messages about every app")
    async def list_notifiers() -> Page[NotifierView]:
        """Lists the notifiers without their secrets: those of SLIPWAY_NOTIFY, which are read-only, and at most 100
        others. They get messages in addition to the addresses in an app's manifest.
        """
        return Page(items=await recipients.views())

    @router.put("", summary="Replace the list of notifiers")
    async def put_notifiers(body: Annotated[NotifierList, Body(examples=[NOTIFIERS_EXAMPLE])]) -> Page[NotifierView]:
        """Replaces all notifiers except those of SLIPWAY_NOTIFY. An item without `url`, or with the URL without secrets
        that GET shows, keeps the URL that is stored under its name.
        """
        return Page(items=await recipients.replace(body))

    @router.post("/test", summary="Send a test message now", responses={404: {}})
    async def test_notifiers(
        body: Annotated[TestRequest | None, Body(examples=[{"name": "team"}])] = None,
    ) -> Page[TestResult]:
        """Sends a test message to one notifier, or to all that are enabled; returns a result for each recipient. A
        server that hangs delays the answer by up to half a minute.
        """
        at, name = now(), body.name if body else None
        text = "This message was asked for by hand, to see whether it arrives. Nothing has happened."
        message = compose(
            "Slipway: a test message", [text], [("at", f"{at:%Y-%m-%d %H:%M:%S} UTC")], f"{monitor_url}/docs"
        )
        return Page(items=await recipients.test(name, message, f"test-{secrets.token_hex(4)}"))

    return router


def silences_router(store: NotifierStore) -> APIRouter:
    router = APIRouter(prefix="/silences", tags=["notifications"])

    @router.get("", summary="Silences that are in force")
    async def list_silences(limit: Limit = 100, cursor: TimeCursor = None) -> Page[Silence]:
        """Lists the active silences, newest first."""
        at = now()
        active = [each for each in await store.silences() if each.is_active(at)]
        return page_of(active, lambda each: time_key(each.created_at, each.id), limit, cursor)

    @router.post("", summary="Mute messages for a while", status_code=201)
    async def post_silence(body: Annotated[SilenceBody, Body(examples=[SILENCE_EXAMPLE])]) -> Silence:
        """Mutes messages that match every given field; with `rule`, only those about alerts of that rule. Muted
        messages are recorded as `silenced` deliveries. Only messages are muted: a muted alert about a canary still
        aborts the canary's rollout.
        """
        at = now()
        if body.until is not None and body.until <= at:
            raise Invalid("until", "is over already; give a time to come")
        silence = new_silence(f"silence-{secrets.token_hex(4)}", body, at)
        await store.put_silence(silence, at)
        return silence

    @router.delete("/{id}", summary="End a silence", status_code=204)
    async def delete_silence(id: str) -> Response:
        """Ends the silence. Within 5 minutes, people are notified of alerts that still fire."""
        if not await store.delete_silence(id):
            raise NotFound(f"there is no silence {id}; GET /silences lists those in force")
        return Response(status_code=204)

    return router
