"""Handles a forge's webhook call: checks its signature, and stores the delivery."""

import logging
import secrets
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import replace
from datetime import datetime

from services.build.builds.app import App
from services.build.builds.build_store import BuildStore
from services.build.forges.delivery import WebhookDelivery, WebhookDeliveryState, again, new_delivery
from services.build.forges.delivery_store import DeliveryStore
from services.build.forges.webhook import BadPayload, Body, Notice, delivery_of, is_signed, read
from services.build.git.remote_source import Forge
from shared.errors import NotFound, Problem, Unauthorized
from shared.security.vault import Vault, VaultError

log = logging.getLogger(__name__)

REFUSED = "the webhook's signature is missing or wrong; the secret there must be the app's source.webhook_secret"


class WebhookHandler:
    """Receives webhook deliveries from forges and, on request, sets a delivery back to be processed again. It calls
    `wake(app)` when a delivery of that app waits to be processed.
    """

    def __init__(
        self,
        store: BuildStore,
        deliveries: DeliveryStore,
        vault: Vault,
        *,
        wake: Callable[[str], None],
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._vault = vault
        self._wake = wake
        self._now = now
        self._dummy_secret = secrets.token_hex(32)

    async def receive(
        self, forge: Forge, name: str, headers: Mapping[str, str], chunks: AsyncIterable[bytes]
    ) -> tuple[WebhookDelivery, bool]:
        """Reads the body from `chunks`, checks its signature and stores the delivery. Returns the delivery, and True if
        it is new or is processed again because it had failed. Raises Unauthorized, always with the same message, if the
        app or the signature is wrong, and a Problem with status 400 for a bad payload.
        """
        app, secret, fault = await self._secret(forge, name)
        body = Body(secret or self._dummy_secret)
        async for chunk in chunks:
            body.feed(chunk)
        # Computed even without an app, so that the time of the answer does not reveal whether the app exists.
        signed = is_signed(forge, headers, body)
        if app is None or not secret or not signed:
            log.warning("a webhook of %s for %.40r was refused: %s", forge, name, fault or "its signature is not right")
            raise Unauthorized(REFUSED)
        app.check_stays()
        try:
            notice = read(forge, headers, body)
        except BadPayload as error:
            raise Problem(str(error), status=400) from None
        notice = _mapped(app, notice)
        delivery = new_delivery(name, forge, delivery_of(forge, headers, body), notice, self._now())
        stored, new = await self._deliveries.add(delivery)
        if not new and stored.state is WebhookDeliveryState.FAILED:
            stored, new = await self.again(name, stored.id), True
        if stored.waits:
            self._wake(name)
        elif new:
            await self._deliveries.trim(name)
        return stored, new

    async def again(self, app: str, delivery_id: str) -> WebhookDelivery:
        """Sets a delivery back to `received`, so that it is processed again. Raises NotFound if there is no such
        delivery, and Conflict if it is not about a push.
        """
        delivery = again(await self._deliveries.delivery(app, delivery_id), self._now())
        await self._deliveries.save([delivery])
        self._wake(app)
        return delivery

    async def _secret(self, forge: Forge, name: str) -> tuple[App | None, str, str]:
        """Returns the app (None if there is none), its webhook secret, and the reason if there is no secret; the last
        two may be empty.
        """
        try:
            app = await self._store.app(name)
        except NotFound:
            return None, "", "there is no such app"
        if app.source is None or app.source.forge is not forge:
            return app, "", f"the app's source is not of {forge}"
        if not app.source.webhook_secret:
            return app, "", "the app's source has no webhook_secret"
        try:
            return app, self._vault.open(app.source.webhook_secret), ""
        except VaultError as error:
            return app, "", f"source.webhook_secret cannot be read: {error}"


def _mapped(app: App, notice: Notice) -> Notice:
    if notice.ignored or notice.branch in app.branches:
        return notice
    mapped = ", ".join(sorted(app.branches)) or "none"
    reason = f"{notice.branch} is not mapped to an environment; nothing to build (mapped: {mapped})"
    return replace(notice, ignored=reason)
