"""Defines the REST routes of the deployer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Response
from fastapi.responses import PlainTextResponse
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel, Field

from services.deployer.api.environment_view import EnvironmentDetail, environment_view, instance_stats, registry_view
from services.deployer.drivers.driver import Driver, UnknownInstance
from services.deployer.reconcile.prober import Prober
from services.deployer.reconcile.release_service import ReleaseService
from services.deployer.releases.environment import AppFacts, EnvironmentId
from services.deployer.releases.environment_mask import environment_mask
from services.deployer.releases.environment_patch import EnvironmentPatch
from services.deployer.releases.release import ENDED, Release, ReleaseDetail, view
from services.deployer.store import Store
from shared.clock import now
from shared.errors import NotFound
from shared.models import (
    AppName,
    Environment,
    InstanceStats,
    Model,
    Page,
    ReleaseRequest,
    ReleaseState,
    RetireRequest,
)
from shared.registry import Registry, RegistryView
from shared.web.openapi import CONFLICT
from shared.web.paging import Limit, NumberCursor, cut

FOLLOW_S = 0.2
MOST_LINES = 100_000


class RollbackRequest(Model):
    to: str | None = Field(None, description="Id of the release to go back to; if not given, the last good one.")


def environment_id_of(app: AppName, environment: Environment) -> EnvironmentId:
    return EnvironmentId(app, environment)


EnvironmentPath = Annotated[EnvironmentId, Depends(environment_id_of)]


def router(
    release_service: ReleaseService,
    store: Store,
    driver: Driver,
    registry: Registry,
    prober: Prober,
    facts: AppFacts,
    ending: asyncio.Event,
) -> APIRouter:
    """Returns the router of the service. `facts` holds the secrets of the platform that apps receive, and that logs in
    answers must not show. Once `ending` is set, running event streams end, so that the service can shut down.
    """
    routes = APIRouter()

    async def release_of(id: str) -> Release:
        release = await store.release(id)
        if release is None:
            raise NotFound(f"there is no release {id}; lists of releases say which are kept")
        return release

    ReleasePath = Annotated[Release, Depends(release_of)]

    @routes.post(
        "/apps/{app}/environments/{environment}/releases",
        status_code=202,
        response_model=ReleaseDetail,
        tags=["releases"],
        summary="Release a build",
        responses={200: {"model": ReleaseDetail, "description": "Unchanged: it is live already."}, **CONFLICT},
    )
    async def create_release(
        environment_id: EnvironmentPath,
        body: Annotated[ReleaseRequest, Body(examples=[{"build": "notes-17"}])],
        response: Response,
    ) -> ReleaseDetail:
        """Answers 202 with the release of the build, or 200 with `unchanged: true` if the live release has the same
        commit and artifact. While a release of the build is pending or starting, a repeated request is answered with
        that release. A newer build supersedes a pending release. A build that has not passed every gate, or whose
        artifact has changed since, is refused with 409. For production, a build of another branch that skipped a step
        of production is refused with 409, too.
        """
        release, unchanged = await release_service.release(environment_id, body.build)
        response.status_code = 200 if unchanged else 202
        return view(release, now(), unchanged=unchanged)

    @routes.get(
        "/apps/{app}/environments/{environment}/releases",
        response_model=Page[ReleaseDetail],
        tags=["releases"],
        summary="List releases",
    )
    async def list_releases(
        environment_id: EnvironmentPath,
        cursor: NumberCursor = None,
        limit: Limit = 20,
    ) -> Page[ReleaseDetail]:
        """Lists the environment's releases, newest first."""
        page = cut(await store.releases(environment_id, before=cursor, limit=limit + 1), limit, lambda r: r.number)
        return Page(items=[view(each, now()) for each in page.items], next=page.next)

    @routes.get("/releases/{id}", response_model=ReleaseDetail, tags=["releases"], summary="Get a release")
    async def get_release(release: ReleasePath) -> ReleaseDetail:
        """Returns a release with its history. After a failure it also holds the exit code, the result of the last
        probe, and the first and last lines of the instance's output.
        """
        return view(release, now())

    @routes.get(
        "/releases/{id}/events",
        response_class=EventSourceResponse,
        tags=["releases"],
        summary="Follow a release",
    )
    async def follow_release(release: ReleasePath) -> AsyncIterator[ReleaseDetail]:
        """Streams the release as server-sent events: once at the beginning and after each change, until it has
        ended.
        """
        sent: Release | None = None
        while True:
            if release != sent:
                yield view(release, now())
                sent = release
            if release.state in ENDED:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), FOLLOW_S)
                return
            release = await store.release(release.id) or release

    @routes.get(
        "/releases/{id}/promotion",
        status_code=204,
        tags=["releases"],
        summary="Check whether it may go to production",
        responses=CONFLICT,
    )
    async def check_promotion(id: str) -> None:
        """Answers 204 if the release's build may be released to production. The answer is 409 if it may not, for
        example because it skipped steps whose `when` names production or its branch; `detail` says which steps, and
        what to do.
        """
        await release_service.check_promotion(id)

    @routes.post(
        "/releases/{id}/retire",
        response_model=ReleaseDetail,
        tags=["releases"],
        summary="Retire a release",
        responses=CONFLICT,
    )
    async def retire_release(
        id: str,
        body: Annotated[RetireRequest, Body(examples=[{"state": "rolled_back", "reason": "error rate 12 %"}])],
    ) -> ReleaseDetail:
        """Ends the release: its instances get no more visitors, drain and stop. A release that has ended stays as it
        is. The answer is 409 if the release serves production.
        """
        return view(await release_service.retire(id, ReleaseState(body.state), body.reason), now())

    @routes.post(
        "/apps/{app}/environments/{environment}/rollback",
        status_code=202,
        response_model=ReleaseDetail,
        tags=["releases"],
        summary="Roll back",
        responses=CONFLICT,
    )
    async def roll_back(
        environment_id: EnvironmentPath,
        body: Annotated[RollbackRequest | None, Body(examples=[{"to": "notes-r8"}])] = None,
    ) -> ReleaseDetail:
        """Creates a release of the last good build before the live one or, if `to` is given, of the build that the
        release `to` ran.
        """
        return view(await release_service.rollback(environment_id, body.to if body else None), now())

    @routes.get(
        "/apps/{app}/environments/{environment}",
        response_model=EnvironmentDetail,
        tags=["environments"],
        summary="Get an environment",
    )
    async def get_environment(environment_id: EnvironmentPath) -> EnvironmentDetail:
        """Returns the environment's desired settings and its actual state. Secrets are listed by name, without their
        values.
        """
        return await environment_view(store, environment_id)

    @routes.patch(
        "/apps/{app}/environments/{environment}",
        response_model=EnvironmentDetail,
        tags=["environments"],
        summary="Scale, or set variables and secrets",
        responses=CONFLICT,
    )
    async def patch_environment(
        environment_id: EnvironmentPath,
        body: Annotated[
            EnvironmentPatch,
            Body(
                examples=[
                    {"replicas": 2},
                    {"memory": "128m"},
                    {"variables": {"GREETING": "hello"}},
                    {"secrets": {"DATABASE_URL": "postgres://notes:…@db/notes", "OLD_KEY": None}},
                ]
            ),
        ],
    ) -> EnvironmentDetail:
        """Changes the given settings, without downtime unless the app has a volume. For other `replicas`, instances are
        added or drained. For another `memory`, the limit of running instances is changed without a restart; if an
        instance uses more than 80 % of the new limit, `memory_refusal` says so, and the change is tried again every 30
        s. For other `variables` or `secrets`, new instances replace the old ones. Variables and secrets may be set
        before the first release.
        """
        await release_service.patch(environment_id, body)
        return await environment_view(store, environment_id)

    @routes.get(
        "/apps/{app}/environments/{environment}/logs",
        response_class=PlainTextResponse,
        tags=["environments"],
        summary="Read the app's output",
    )
    async def get_logs(
        environment_id: EnvironmentPath,
        lines: Annotated[int, Query(ge=1, le=10_000, description="Number of last lines of each instance.")] = 100,
    ) -> PlainTextResponse:
        """Returns the output of the environment's instances as plain text, including the last few that have ended. Each
        line begins with the id of its instance. The answer holds at most 100 000 lines, divided equally among the
        instances. Secrets are masked.
        """
        parts = []
        stored = await store.load(environment_id)
        instances, mask = stored.instances, environment_mask(stored.override, facts, environment_id.environment)
        for instance_id in instances:
            try:
                tail = await driver.logs(instance_id, min(lines, MOST_LINES // len(instances)))
            except UnknownInstance:
                continue  # the instance has not started yet
            parts += [f"{instance_id} | {line}\n" for line in tail]
        return PlainTextResponse(await asyncio.to_thread(mask, "".join(parts)))

    @routes.get(
        "/stats", response_model=Page[InstanceStats], tags=["platform"], summary="Raw counters of all instances"
    )
    async def get_stats() -> Response:
        """Lists the counters of every running instance, such as its memory and CPU time. An instance that is not
        running is not listed.
        """
        return _written(Page(items=await instance_stats(store, driver)))

    @routes.get("/registry", response_model=RegistryView, tags=["platform"], summary="Services and instances")
    async def get_registry() -> Response:
        """Returns the registry: the platform's services with their URLs, and the instances of all apps with their
        addresses and states. For apps that have a canary, `probes` says when the health probes of their instances last
        succeeded or failed.
        """
        return _written(await registry_view(registry, prober))

    return routes


def _written(view: BaseModel) -> Response:
    """Returns a response with this body. FastAPI would validate the body again and convert it to dicts first, which
    takes most of the time of a large response that is requested twice a second.
    """
    return Response(view.model_dump_json(), media_type="application/json")
