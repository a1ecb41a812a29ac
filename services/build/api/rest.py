"""Serves apps and builds over REST, and the pages of a build."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field, model_validator

from services.build.api.badge import badge
from services.build.api.page_views import BuildPages
from services.build.api.webhooks import PUBLIC_WEBHOOKS
from services.build.builds.app import AppSettings, AppView, NewApp
from services.build.builds.build import Build, StopRequest, with_changes
from services.build.builds.build_store import BuildStore
from services.build.git.repository import Repositories
from services.build.logs.build_log import BuildLogs
from services.build.manifest.promotion import promotion_refusal
from services.build.queue.workers import with_stop
from services.build.retention.app_removal import AppRemovals
from services.build.triggers.push_handler import PushHandler
from services.build.triggers.remote_sync import RemoteSync
from shared.errors import Conflict, NotFound, Problem
from shared.models import BuildState, Commit, Model, Page
from shared.security.outgoing import AddressGuard
from shared.security.vault import Vault
from shared.store import RedisError
from shared.web.openapi import AS_PAGE, CONFLICT, GONE, NOT_IN_TIME, SEE_OTHER
from shared.web.pages import wants_page
from shared.web.paging import Limit, NameCursor, page_of

PUBLIC = rf"/apps/[^/]+/badge\.svg|{PUBLIC_WEBHOOKS}"
From = Annotated[int, Query(alias="from", ge=0, lt=10**15, description="Byte of the log at which to begin.")]
_OFFSET = re.compile("[0-9]{1,15}")
BUILD_EXAMPLE = {"branch": "release"}
APP_EXAMPLE = {
    "branches": {"release": "production", "dev": "canary"},
    "gates": {"coverage": 70},
    "flaky": {"reruns": 1},
}


Named = Annotated[
    Sequence[str], Query(description="Name of a volume that is removed, too; may be repeated.", max_length=8)
]
All = Annotated[bool, Query(description="Removes all volumes, too.")]


class BuildRequest(Model):
    """Request body of `POST /apps/{app}/builds`: a branch, a commit, or both."""

    branch: str | None = Field(
        None,
        max_length=200,
        description="Branch whose head is built, and deployed if the branch is mapped to an environment.",
    )
    commit: Commit | None = Field(
        None,
        description="Commit that is built and judged, but not deployed; with a branch it is judged and deployed as one "
        "of that branch, whose head stays.",
    )

    @model_validator(mode="after")
    def _any(self) -> "BuildRequest":
        if self.branch is None and self.commit is None:
            raise ValueError("give a branch, a commit or both")
        return self


def apps_router(
    store: BuildStore,
    repositories: Repositories,
    remote_sync: RemoteSync,
    removals: AppRemovals,
    wake_removals: Callable[[], None],
    vault: Vault,
    now: Callable[[], datetime],
    *,
    guard: AddressGuard,
) -> APIRouter:
    """Returns the router for requests about apps. `wake_removals` wakes the loop that removes apps; `guard` decides
    which addresses a source may have.
    """
    router = APIRouter(prefix="/apps", tags=["apps"])

    @router.post("", status_code=201, response_model=AppView, summary="Make an app", responses=CONFLICT)
    async def make(new: Annotated[NewApp, Body(examples=[{"name": "notes", **APP_EXAMPLE}])]) -> AppView:
        """Creates an app before its first push. Without this, the first push creates it, with the default branches and
        gates.
        """
        app = new.make(now(), vault, guard=guard)
        await store.add_app(app)
        remote_sync.request_fetch(app)
        return app.view()

    @router.get("", response_model=Page[AppView], summary="All apps")
    async def apps(limit: Limit = 100, cursor: NameCursor = None) -> Page[AppView]:
        """Lists the apps, sorted by name."""
        names = page_of(await store.app_names(), str, limit, cursor, newest_first=False)
        return Page(items=[app.view() for app in await store.apps(names.items)], next=names.next)

    @router.get("/{app}", response_model=AppView, summary="An app")
    async def app(app: str) -> AppView:
        """Shows an app: its branches; the minimum gates, which are thresholds that its manifest may tighten but not
        loosen; its limits for flaky tests; and its source, without token and secret.
        """
        return (await store.app(app)).view()

    @router.put("/{app}", response_model=AppView, summary="Change an app", responses=CONFLICT)
    async def put(app: str, settings: Annotated[AppSettings, Body(examples=[APP_EXAMPLE])]) -> AppView:
        """Sets those fields of the app that the request holds; other fields stay. If a branch is newly mapped to an
        environment, it is built. With a `root`, that folder of the repository is built as if it were the whole
        repository. With `gate: push`, a push to production's branch is accepted only after a build of its commit has
        passed. `source: null` removes the source; a source without token or webhook_secret keeps the stored ones.
        """
        before = await store.app(app)
        before.check_stays()
        changed = settings.applied_to(before, vault, guard=guard)
        if changed.gate is not None:  # git's hook must know the setting before the next push
            await repositories.in_thread(repositories.gate, app, True)
        await store.change_app(changed)
        if changed.gate is None and repositories.exists(app):
            await repositories.in_thread(repositories.gate, app, False)
        remote_sync.request_fetch(changed)
        return changed.view()

    @router.delete("/{app}", status_code=202, response_model=AppView, summary="Remove an app")
    async def delete(app: str, volume: Named = (), volumes: All = False) -> AppView:
        """Removes the app from the whole platform: cancels its builds, ends its releases, instances and rollout, and
        deletes its route, variables, secrets, repository, builds with logs and reports, caches, artifacts, and its data
        in the monitor. Volumes stay unless they are named. Until the removal is done, GET shows in `removing` what it
        waits for, and pushes are refused; afterwards GET answers 404. The request may be repeated. A removal continues
        after a restart of the service.
        """
        changed = await removals.begin(await store.app(app), None if volumes else list(volume))
        wake_removals()
        return changed.view()

    @router.get("/{app}/badge.svg", response_class=Response, summary="The badge", openapi_extra=_svg())
    async def app_badge(app: str, branch: str = "release") -> Response:
        """Returns the badge of the branch's last build that ended in success, failure or error; `unknown` if there is
        none. It needs no token.
        """
        image = badge(await store.last_judged(app, branch))
        return Response(image, media_type="image/svg+xml", headers={"Cache-Control": "no-cache"})

    return router


def build_router(
    store: BuildStore,
    push_handler: PushHandler,
    remote_sync: RemoteSync,
    logs: BuildLogs,
    pages: BuildPages,
    wake: Callable[[], None],
    refusal_to_cancel: Callable[[Build], Awaitable[str]],
) -> APIRouter:
    """Returns the router for requests about builds. `refusal_to_cancel` returns the reason why it is too late to cancel
    a build that is being deployed; empty if it is not too late.
    """
    router = APIRouter(tags=["builds"])

    async def found(build_id: str) -> Build:
        return await store.build(build_id)

    Found = Annotated[Build, Depends(found)]

    @router.post(
        "/apps/{app}/builds",
        status_code=202,
        response_model=Build,
        summary="Build without a push",
        responses={**CONFLICT, **NOT_IN_TIME},
    )
    async def queue(app: str, body: Annotated[BuildRequest, Body(examples=[BUILD_EXAMPLE])]) -> Build:
        """Queues a build of a branch's head or of a commit, even if the commit's message says [CI SKIP]. With a branch
        and a commit, the commit is judged and deployed as one of the branch; if it is not the branch's head, the build
        supersedes no other. An app's source is fetched first, unless the repository has the commit; if the fetch fails,
        the answer is 503.
        """
        return await remote_sync.build(app, body.branch, body.commit)

    @router.get("/builds/{build_id}", response_model=Build, summary="A build", responses=AS_PAGE)
    async def build(request: Request, build: Found) -> Any:
        """Shows the build: state and reason, steps, gates, artifact. Answers with a page if `Accept` begins with
        `text/html`.
        """
        if _wants_page(request):
            return HTMLResponse(pages.build(build, request.url.hostname))
        with contextlib.suppress(NotFound):  # the app has been deleted
            refusal = promotion_refusal(build, await store.app(build.app))
            return with_changes(build, promotion_refusal=refusal)
        return build

    @router.get(
        "/builds/{build_id}/log",
        response_class=PlainTextResponse,
        summary="A build's log",
        responses={**AS_PAGE, **GONE},
    )
    async def log(
        request: Request,
        build: Found,
        start: From = 0,
        line: Annotated[int, Query(ge=1, le=10**9, description="Line of the log that the page shows.")] = 1,
    ) -> Response:
        """Returns the log as plain text, as far as it is written, from byte `from` on. The answer is 410 if retention
        has deleted the log. If `Accept` begins with `text/html`, the answer is a page of 1000 numbered lines:
        `?line=120#L120` links to a line.
        """
        if build.expired.log is not None:
            raise Problem(
                f"the log of {build.id} was deleted by the retention policy on {build.expired.log:%Y-%m-%d}", status=410
            )
        if _wants_page(request):
            return HTMLResponse(await asyncio.to_thread(pages.log, build, line, request.url.hostname))
        return PlainTextResponse(await asyncio.to_thread(logs.read, build.id, start, limit=-1))

    @router.get("/builds/{build_id}/events", response_class=EventSourceResponse, summary="Follow a build")
    async def events(
        build: Found,
        start: From = 0,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> AsyncIterator[ServerSentEvent]:
        """Streams server-sent events: `log` (new lines; the event's id is the byte of the log after them), `state` (the
        build, on each change) and `end`. The header `Last-Event-ID` resumes the stream after that byte."""
        latest, shown = build, None

        async def ended() -> bool:
            nonlocal latest
            try:
                latest = await store.build(build.id)
            except RedisError:
                return False  # the log goes on
            return latest.ended

        at = int(last_event_id) if last_event_id and _OFFSET.fullmatch(last_event_id) else start
        async for lines in logs.follow(build.id, ended, at):
            if lines:
                at += len(lines)
                yield ServerSentEvent(event="log", data=lines.decode(errors="replace"), id=str(at))
            if latest != shown and not latest.ended:
                shown = latest
                yield ServerSentEvent(event="state", data=latest)
        if latest.ended:  # else this service ends, and the browser connects again
            yield ServerSentEvent(event="state", data=latest)
            yield ServerSentEvent(event="end", data=latest.state)

    @router.post(
        "/builds/{build_id}/cancel",
        status_code=202,
        response_model=Build,
        summary="Cancel a build",
        responses={**CONFLICT, **SEE_OTHER},
    )
    async def cancel(request: Request, build: Found) -> Any:
        """Cancels the build. If it is being deployed, that cancels its release, unless the release serves visitors
        already. The state changes once the build's processes have ended. The answer is 409 if the build has ended, or
        if its release serves visitors; a rollback then brings back the earlier release.
        """
        if build.deploying and (refusal := await refusal_to_cancel(build)):
            raise Conflict(refusal)
        stop = StopRequest(state=BuildState.CANCELLED, reason="cancelled by hand")
        asked = await store.update(build.id, lambda stored: with_stop(stored, stop))
        if asked.ended or asked.stop is None:
            raise Conflict(f"{build.id} {'has ended: ' + asked.state if asked.ended else 'is about to end'}")
        wake()
        return _see(asked) if _wants_page(request) else asked

    @router.post(
        "/builds/{build_id}/retry",
        status_code=202,
        response_model=Build,
        summary="Build it again",
        responses={**CONFLICT, **SEE_OTHER},
    )
    async def retry(request: Request, build: Found) -> Any:
        """Queues a new build of the same commit. The answer is 409 if this build has not ended."""
        again = await push_handler.retry(build)
        return _see(again) if _wants_page(request) else again

    return router


def _wants_page(request: Request) -> bool:
    return wants_page(request.headers.get("accept"))


def _see(build: Build) -> RedirectResponse:
    return RedirectResponse(f"/builds/{build.id}", status_code=303)


def _svg() -> dict[str, Any]:
    return {"responses": {"200": {"description": "An SVG image.", "content": {"image/svg+xml": {}}}}}
