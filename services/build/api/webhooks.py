"""Serves webhooks of forges, and the list of their deliveries, over REST."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.requests import ClientDisconnect

from services.build.builds.build_store import BuildStore
from services.build.forges.delivery import WebhookDelivery, WebhookDeliveryState
from services.build.forges.delivery_store import DeliveryStore, number_of
from services.build.forges.webhook import LARGEST_BYTES
from services.build.forges.webhook_handler import WebhookHandler
from services.build.git.remote_source import Forge
from shared.errors import Problem
from shared.models import Page, View
from shared.web.openapi import CONFLICT, TOO_LARGE
from shared.web.paging import Limit, NumberCursor, cut

PUBLIC_WEBHOOKS = r"/webhooks/[^/]+/[^/]+"
LENGTH_DIGITS = 15


class Answer(View):
    """Response body of a webhook call, which the forge shows in its own log of deliveries."""

    id: str
    state: WebhookDeliveryState
    reason: str
    known: bool = Field(False, description="True if the delivery was received before; it is not processed again.")


def webhooks_router(store: BuildStore, deliveries: DeliveryStore, webhook_handler: WebhookHandler) -> APIRouter:
    router = APIRouter(tags=["webhooks"])

    @router.post(
        "/webhooks/{forge}/{app}",
        response_model=Answer,
        responses={202: {"model": Answer}, 401: {}, **CONFLICT, **TOO_LARGE},
        summary="A forge's webhook",
        openapi_extra=_json_body(),
    )
    async def webhook(forge: Forge, app: str, request: Request, response: Response) -> Answer:
        """Receives a webhook call of a forge. It needs no token, but a signature with the app's
        `source.webhook_secret`. The answer is 202 for a push, which is fetched and built in the background; 200 with
        the reason if there is nothing to do, also for a repeated delivery; 401 if the signature, the app or its secret
        is wrong; 413 if the body exceeds 25 MB.
        """
        delivery, new = await webhook_handler.receive(forge, app, request.headers, _chunks(request))
        if not new:
            return Answer(id=delivery.id, state=delivery.state, reason="known already", known=True)
        response.status_code = 202 if delivery.waits else 200
        return Answer(id=delivery.id, state=delivery.state, reason=delivery.reason)

    @router.get("/apps/{app}/deliveries", response_model=Page[WebhookDelivery], summary="Deliveries of webhooks")
    async def log(app: str, limit: Limit = 100, cursor: NumberCursor = None) -> Page[WebhookDelivery]:
        """Lists the deliveries of webhooks, newest first, each with its outcome. The newest 200 of an app are kept."""
        await store.app(app)
        found = await deliveries.deliveries(app, limit=limit + 1, before=cursor)
        return cut(found, limit, lambda delivery: number_of(delivery.id))

    @router.post(
        "/apps/{app}/deliveries/{delivery_id}/redeliver",
        status_code=202,
        response_model=WebhookDelivery,
        summary="Process a delivery again",
        responses=CONFLICT,
    )
    async def redeliver(app: str, delivery_id: str) -> WebhookDelivery:
        """Fetches the app's source again in the background, and builds the head of the delivery's branch unless a build
        of it is queued already. The answer is 409 if the delivery was not about a push.
        """
        return await webhook_handler.again(app, delivery_id)

    return router


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """Yields the raw body of the request as it arrives. Raises a Problem with status 413 if the body exceeds 25 MB, and
    with status 400 if the client disconnects.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > LENGTH_DIGITS or int(length) > LARGEST_BYTES):
        raise _too_large()
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > LARGEST_BYTES:
                raise _too_large()
            yield chunk
    except ClientDisconnect:
        raise Problem("the connection ended before the body did", status=400) from None


def _too_large() -> Problem:
    return Problem(f"the body has more than {LARGEST_BYTES // 2**20} MB; let the webhook send pushes only", status=413)


def _json_body() -> dict[str, Any]:
    """Returns the OpenAPI schema and example of a webhook's request body, which suit GitHub, GitLab and Gitea."""
    example = {"ref": "refs/heads/release", "after": "2f4e6a8b0c1d3e5f7a9b2c4d6e8f0a1b3c5d7e9f"}
    return {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}, "example": example}}}}
