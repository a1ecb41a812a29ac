"""Serves the history of builds over REST and as a page, with filters."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BeforeValidator

from services.build.api.page_views import BuildPages
from services.build.builds.build import Build
from services.build.builds.build_query import Filter, find
from services.build.builds.build_store import BuildStore
from shared.models import BuildState, Environment, Page
from shared.web.paging import Limit, NumberCursor

PAGE = 30
App = Annotated[str | None, Query(max_length=39, description="Name of an app.")]


def _given(text: str | None) -> str | None:
    return text or None


def build_filter(
    branch: Annotated[str | None, Query(max_length=200, description="Exact name of a branch.")] = None,
    state: Annotated[list[BuildState] | None, Query(description="One or several states.")] = None,
    environment: Annotated[
        Environment | None, BeforeValidator(_given), Query(description="Environment that the build is for.")
    ] = None,
    commit: Annotated[
        str | None, Query(pattern=r"^[0-9a-fA-F]{0,40}$", description="First digits of the commit's id.")
    ] = None,
) -> Filter:
    """Returns the filter for builds that the query parameters of a request describe. A parameter that is missing or
    empty matches every build.
    """
    return Filter(
        branch=(branch or "").strip() or None,
        states=tuple(state or ()),
        environment=environment,
        commit=commit.lower() if commit else None,
    )


BuildFilter = Annotated[Filter, Depends(build_filter)]


def builds_router(store: BuildStore, pages: BuildPages) -> APIRouter:
    router = APIRouter(tags=["builds"])

    async def page(asked: Filter, limit: int, cursor: int | None) -> Page[Build]:
        found = await find(store, asked, limit=limit, before=cursor)
        return Page(items=found.builds, next=str(found.following) if found.following else None)

    @router.get("/", response_class=HTMLResponse, summary="The history as a page")
    async def history(
        request: Request, asked: BuildFilter, app: App = None, cursor: NumberCursor = None
    ) -> HTMLResponse:
        """Shows a page of builds, newest first; the query parameters filter them."""
        asked = replace(asked, app=app or None)
        found = await find(store, asked, limit=PAGE, before=cursor)
        return HTMLResponse(pages.history(found, asked, await store.app_names(), request.url.hostname))

    @router.get("/builds", response_model=Page[Build], summary="Builds of all apps")
    async def every(asked: BuildFilter, app: App = None, limit: Limit = 50, cursor: NumberCursor = None) -> Page[Build]:
        """Lists builds of all apps, newest first; the query parameters filter them. One request searches at most 1 000
        builds, so a page may hold fewer than `limit` builds and still have a `next`."""
        return await page(replace(asked, app=app or None), limit, cursor)

    @router.get("/apps/{app}/builds", response_model=Page[Build], summary="Builds of an app")
    async def builds(app: str, asked: BuildFilter, limit: Limit = 50, cursor: NumberCursor = None) -> Page[Build]:
        """Lists builds of an app, newest first; the query parameters filter them. One request searches at most 1 000
        builds, so a page may hold fewer than `limit` builds and still have a `next`.
        """
        return await page(replace(asked, app=app), limit, cursor)

    return router
