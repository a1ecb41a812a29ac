"""Serves the routes that stop, start, restart and remove an environment, and that remove an app."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from services.deployer.api.environment_view import EnvironmentDetail, environment_view
from services.deployer.api.rest import CONFLICT, NOT_FOUND, EnvironmentPath
from services.deployer.lifecycle.lifecycle_service import LifecycleService
from services.deployer.lifecycle.removal import Removal
from services.deployer.releases.environment import EnvironmentId, EnvironmentState
from services.deployer.store import Store
from shared.models import AppName, Environment, View

ACCEPTED: dict[str, Any] = {
    "status_code": 202,
    "response_model": EnvironmentDetail,
    "tags": ["environments"],
    "responses": {**NOT_FOUND, **CONFLICT},
}


Named = Annotated[
    Sequence[str], Query(description="Name of a volume that is removed, too; may be repeated.", max_length=8)
]
All = Annotated[bool, Query(description="Removes all volumes, too.")]


class EnvironmentRemoval(View):
    """Response body of `DELETE /apps/{app}/environments/{env}`."""

    state: EnvironmentState
    waits_for: str = Field(description="What the removal waits for.")
    volumes_left: list[str] = Field(description="Names of the volumes that stay.")


class AppEnd(View):
    """Response body of `DELETE /apps/{app}`."""

    app: AppName
    state: Literal["removing", "removed"]
    waits_for: dict[str, str] = Field(description="What the removal waits for, by environment.")
    volumes_left: dict[str, list[str]] = Field(description="Names of the volumes that stay, by environment.")


def lifecycle_router(lifecycle: LifecycleService, removal: Removal, store: Store) -> APIRouter:
    """Returns the router with the requests that stop, start, restart and remove environments, and remove apps."""
    routes = APIRouter(prefix="/apps/{app}")

    async def done(
        change: Callable[[EnvironmentId], Awaitable[None]], environment_id: EnvironmentId
    ) -> EnvironmentDetail:
        await change(environment_id)
        return await environment_view(store, environment_id)

    @routes.post("/environments/{env}/stop", summary="Stop", **ACCEPTED)
    async def stop(environment_id: EnvironmentPath) -> EnvironmentDetail:
        """Ends the environment's instances: they leave the route, answer their last requests, and get SIGTERM. The live
        release stays, and `start` brings it back; until then, visitors of a stopped production get the status 503. A
        pending or starting release is retired. The request may be repeated. The answer is 409 if the environment is
        being removed.
        """
        return await done(lifecycle.stop, environment_id)

    @routes.post("/environments/{env}/start", summary="Start", **ACCEPTED)
    async def start(environment_id: EnvironmentPath) -> EnvironmentDetail:
        """Starts the live release of a stopped environment again, from its artifact. A release or a rollback also
        starts the environment. The request may be repeated. The answer is 409 if there is no live release, or if the
        environment is being removed.
        """
        return await done(lifecycle.start, environment_id)

    @routes.post("/environments/{env}/restart", summary="Restart", **ACCEPTED)
    async def restart(environment_id: EnvironmentPath) -> EnvironmentDetail:
        """Replaces each instance of the live release by a new one, without downtime unless the app has a volume. Each
        call restarts the environment once more. The answer is 409 if the environment is stopped, has no live release,
        or is being removed.
        """
        return await done(lifecycle.restart, environment_id)

    @routes.delete(
        "/environments/{env}",
        status_code=202,
        response_model=EnvironmentRemoval,
        tags=["environments"],
        summary="Remove an environment",
        responses=NOT_FOUND,
    )
    async def remove(environment_id: EnvironmentPath, volume: Named = (), volumes: All = False) -> EnvironmentRemoval:
        """Removes the environment: its releases end, a rollout is aborted, the instances drain and stop. Then its
        variables, secrets, records and logs are deleted, with the app's route if the app has no other environment.
        Volumes stay unless they are named. GET answers with the state `removing` until it is done, and then with 404.
        The request may be repeated.
        """
        left = await removal.left(environment_id)
        await lifecycle.remove(environment_id, None if volumes else list(volume))
        left = [name for name in left if not volumes and name not in volume]
        waits_for = removal.waits_for.get(environment_id, "")
        return EnvironmentRemoval(state=EnvironmentState.REMOVING, waits_for=waits_for, volumes_left=left)

    @routes.delete(
        "",
        status_code=202,
        response_model=AppEnd,
        tags=["environments"],
        summary="Remove all environments of an app",
        responses={200: {"model": AppEnd, "description": "Nothing of the app is left."}},
    )
    async def remove_app(app: AppName, response: Response, volume: Named = (), volumes: All = False) -> AppEnd:
        """Removes both environments of the app, and then what is left of it: its route, and the counter of its
        releases. The build service repeats this request until the answer is 200. It may be sent for an app that does
        not exist.
        """
        await lifecycle.remove_app(app, None if volumes else list(volume))
        if is_gone := await removal.end_app(app):
            response.status_code = 200
        ids = [EnvironmentId(app, environment) for environment in Environment]
        waits_for = {str(each.environment): removal.waits_for[each] for each in ids if each in removal.waits_for}
        left = {str(each.environment): names for each in ids if (names := await removal.left(each))}
        state: Literal["removing", "removed"] = "removed" if is_gone else "removing"
        return AppEnd(app=app, state=state, waits_for=waits_for, volumes_left=left)

    return routes
