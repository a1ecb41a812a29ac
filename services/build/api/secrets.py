"""Serves the secrets of an app: sets and removes them, and never shows a value."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body

from services.build.builds.build_store import BuildStore
from services.build.secrets.secret import SecretValue, SecretView, new_secret, opened
from services.build.secrets.secret_store import SecretStore
from shared.models import Page
from shared.security.vault import Vault
from shared.web.paging import Limit, NameCursor, page_of


def secrets_router(store: BuildStore, secrets: SecretStore, vault: Vault, now: Callable[[], datetime]) -> APIRouter:
    router = APIRouter(prefix="/apps/{app}/secrets", tags=["secrets"])

    @router.get("", response_model=Page[SecretView], summary="Secrets of an app")
    async def names(app: str, limit: Limit = 100, cursor: NameCursor = None) -> Page[SecretView]:
        """Lists the names of the secrets, sorted, with the time at which each was last set."""
        await store.app(app)
        stored = await secrets.all(app)
        views = [SecretView(name=name, set_at=secret.set_at) for name, secret in stored.items()]
        return page_of(views, lambda view: view.name, limit, cursor, newest_first=False)

    @router.put("/{name}", status_code=204, summary="Set a secret")
    async def put(app: str, name: str, body: Annotated[SecretValue, Body(examples=[{"value": "…"}])]) -> None:
        """Sets a secret. From the next build on, steps that list it (`secrets: [NAME]` in the manifest) get it as an
        environment variable, and `***` replaces it in all output of the app's builds. A name has letters, digits and
        `_`. A value has at most 64 KiB; all values of an app have at most 256 KiB."""
        (await store.app(app)).check_stays()
        known = await asyncio.to_thread(opened, await secrets.all(app), vault)
        await secrets.put(app, name, new_secret(name, body.value.get_secret_value(), known.values, now(), vault))

    @router.delete("/{name}", status_code=204, summary="Remove a secret")
    async def delete(app: str, name: str) -> None:
        """Removes a secret. Steps that still list it fail, and its value is no longer masked in output, so the value
        should be revoked.
        """
        await store.app(app)
        await secrets.drop(app, name)

    return router
