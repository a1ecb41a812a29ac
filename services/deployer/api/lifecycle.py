"""Serves the routes that stop, start and restart an environment."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter

from services.deployer.api.environment_view import EnvironmentDetail, environment_view
from services.deployer.api.rest import CONFLICT, NOT_FOUND, EnvironmentPath
from services.deployer.lifecycle.lifecycle_service import LifecycleService
from services.deployer.releases.environment import EnvironmentId
from services.deployer.store import Store

ACCEPTED: dict[str, Any] = {
    "status_code": 202,
    "response_model": EnvironmentDetail,
    "tags": ["environments"],
    "responses": {**NOT_FOUND, **CONFLICT},
}


def lifecycle_router(lifecycle: LifecycleService, store: Store) -> APIRouter:
    routes = APIRouter(prefix="/apps/{app}/environments/{env}")

    async def done(
        change: Callable[[EnvironmentId], Awaitable[None]], environment_id: EnvironmentId
    ) -> EnvironmentDetail:
        await change(environment_id)
        return await environment_view(store, environment_id)

    @routes.post("/stop", summary="Stop", **ACCEPTED)
    async def stop(environment_id: EnvironmentPath) -> EnvironmentDetail:
        """Ends the environment's instances: they leave the route, answer their last requests, and get SIGTERM. The live
        release stays, and `start` brings it back. A release that waits is retired. Until then, visitors of a stopped
        production get 503. May be repeated. 409: the environment is being removed.
        """
        return await done(lifecycle.stop, environment_id)

    @routes.post("/start", summary="Start", **ACCEPTED)
    async def start(environment_id: EnvironmentPath) -> EnvironmentDetail:
        """Starts the live release of a stopped environment again, from its artifact. A release or a rollback starts
        the environment, too. May be repeated. 409: there is no live release, or the environment is being removed.
        """
        return await done(lifecycle.start, environment_id)

    @routes.post("/restart", summary="Restart", **ACCEPTED)
    async def restart(environment_id: EnvironmentPath) -> EnvironmentDetail:
        """Replaces each instance of the live release by a new one, without downtime unless the app has a volume. Each
        call restarts once more. 409: the environment is stopped, has no live release, or is being removed.
        """
        return await done(lifecycle.restart, environment_id)

    return routes
