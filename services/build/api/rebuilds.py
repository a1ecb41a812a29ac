"""Serves the deployer's request to build the commit of a release again, because the release's artifact is gone."""

from typing import Annotated

from fastapi import APIRouter, Body

from services.build.builds.build import Build
from services.build.builds.rebuild_request import RebuildRequest
from services.build.triggers.remote_sync import RemoteSync
from shared.web.openapi import CONFLICT, NOT_IN_TIME

EXAMPLE = {"release": "notes-r2", "environment": "production", "commit": "1f0e3dad99908345f7439f8ffabdffc4fb7d5bd5"}


def rebuilds_router(remote_sync: RemoteSync) -> APIRouter:
    router = APIRouter(tags=["builds"])

    @router.post(
        "/apps/{app}/rebuilds",
        status_code=202,
        response_model=Build,
        responses=CONFLICT | NOT_IN_TIME,
        summary="Rebuild a release's artifact",
    )
    async def rebuild(app: str, body: Annotated[RebuildRequest, Body(examples=[EXAMPLE])]) -> Build:
        """Queues a build of the commit of a live release whose artifact or image is gone; the deployer calls this. The
        build passes through all gates, is deployed in place of that release, and supersedes no other build. At most two
        such builds run at a time. If one for this release is under way, returns that one. 409: the repository no longer
        has the commit.
        """
        return await remote_sync.rebuild(app, body)

    return router
