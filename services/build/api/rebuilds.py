"""Serves the request to build a release's commit again, which the deployer makes."""

from fastapi import APIRouter

from services.build.builds.build import Build
from services.build.builds.rebuild_request import RebuildRequest
from services.build.triggers.remote_sync import RemoteSync


def rebuilds_router(remote_sync: RemoteSync) -> APIRouter:
    router = APIRouter(tags=["builds"])

    @router.post("/apps/{app}/rebuilds", status_code=202, response_model=Build, summary="Rebuild a release's artifact")
    async def rebuild(app: str, body: RebuildRequest) -> Build:
        """Queues a build of a live release's commit, whose artifact or image is gone. The deployer calls this by
        itself. It runs through all gates, is deployed in place of that release, and supersedes no other build; at most
        two such builds run at a time. While one of the release is under way, answers with that one. 409: the repository
        has no such commit any more.
        """
        return await remote_sync.rebuild(app, body)

    return router
