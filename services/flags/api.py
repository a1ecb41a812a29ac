"""Defines the REST routes of flags and their history. Further routes are in ofrep_api, import_export_api and
page_api.
"""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from fastapi.responses import HTMLResponse

from services.flags.auth import actor
from services.flags.cache import FlagCache
from services.flags.change import Decide, Precondition, deleted, flag_ids, patched, put
from services.flags.flag import Definition, FlagKey, Patch, StoredKey
from services.flags.page import HISTORY_SHOWN, FlagPages
from services.flags.store import FlagStore
from services.flags.view import ChangeView, FlagView, Views, change_view
from shared.clock import now
from shared.errors import NotFound
from shared.models import Environment, Page
from shared.web.openapi import CONFLICT, UNCHANGED_PAGE
from shared.web.pages import wants_page

EXAMPLE = {
    "state": "ENABLED",
    "variants": {"on": True, "off": False},
    "defaultVariant": "off",
    "targeting": {"if": [{"ends_with": [{"var": "email"}, "@example.com"]}, "on", None]},
    "metadata": {"owner": "notes", "mirror": "featureFlag"},
}
Where = Annotated[Environment | None, Query(description="One environment; without it, all.")]
In = Annotated[Environment, Query(description="The environment to read.")]
Limit = Annotated[int, Query(ge=1, le=200)]
ListCursor = Annotated[
    str | None, Query(pattern=r"^[0-9]{1,16}-[A-Za-z0-9_.-]{1,128}$", description="`next` of the previous page.")
]
Cursor = Annotated[
    str | None, Query(pattern=r"^[0-9]{1,19}(-[0-9]{1,19})?$", description="`next` of the previous page.")
]
Seen = Annotated[
    str | None,
    Query(max_length=64, description="Digest of the page that the browser shows: 204 if it is still the same."),
]


def page_response(page: str | None) -> Response:
    return Response(status_code=204) if page is None else HTMLResponse(page)


def precondition(
    if_match: Annotated[
        str | None, Header(description="ETag of the flag as you read it: 412 if it has changed.")
    ] = None,
    if_none_match: Annotated[str | None, Header(description="`*`: 412 if there is such a flag already.")] = None,
) -> Precondition:
    return Precondition(if_match, if_none_match)


Condition = Annotated[Precondition, Depends(precondition)]


def flags_router(cache: FlagCache, store: FlagStore, views: Views, pages: FlagPages) -> APIRouter:
    router = APIRouter(tags=["flags"])

    async def found(response: Response, key: str, where: Environment | None) -> FlagView:
        view, response.headers["ETag"] = await views.one(key, where)
        return view

    async def write(request: Request, key: str, decide: Decide) -> bool:
        return bool(await cache.change([key], decide, actor=actor(request.headers), at=now()))

    @router.get("/flags", summary="Flags of one environment")
    async def list_flags(
        environment: In = Environment.PRODUCTION, limit: Limit = 200, cursor: ListCursor = None
    ) -> Page[FlagView]:
        """Returns flags of the environment, last changed first, at most 200 at a time. A flag that changes while a
        client reads page after page moves to the first page.
        """
        return await views.page(environment, limit, cursor)

    @router.get("/flags/{key}", response_model=FlagView, summary="One flag", responses=UNCHANGED_PAGE)
    async def get_flag(
        request: Request,
        response: Response,
        key: FlagKey,
        environment: Where = None,
        cursor: Cursor = None,
        seen: Seen = None,
    ) -> FlagView | Response:
        """Returns the flag's definition in one environment, by default production. The ETag is that of the flag in the
        named environment, or over all environments if none is named. If `Accept` begins with `text/html`, answers with
        a page that has the history; `cursor` and `seen` are for that page.
        """
        if wants_page(request.headers.get("accept")):
            changes = await store.history(key, limit=HISTORY_SHOWN, before=cursor)
            return page_response(await pages.flag(key, changes, cursor is None, seen, request.url.hostname))
        view, _ = await views.one(key, environment or Environment.PRODUCTION)
        _, response.headers["ETag"] = await views.one(key, environment)
        return view

    @router.put("/flags/{key}", summary="Make or replace a flag", responses=CONFLICT)
    async def put_flag(
        request: Request,
        response: Response,
        key: FlagKey,
        body: Annotated[Definition, Body(examples=[EXAMPLE])],
        condition: Condition,
        environment: Where = None,
    ) -> FlagView:
        """Creates or replaces the flag in one environment, or in all if the query names none, from a definition in
        flagd's format. Returns the new flag in that environment, or in production if none is named.
        """
        await write(request, key, put(flag_ids(key, environment), body, condition))
        return await found(response, key, environment)

    @router.patch("/flags/{key}", summary="Change a flag", responses=CONFLICT)
    async def patch_flag(
        request: Request,
        response: Response,
        key: FlagKey,
        body: Annotated[Patch, Body(examples=[{"defaultVariant": "on"}, {"state": "DISABLED"}])],
        condition: Condition,
        environment: Where = None,
    ) -> FlagView:
        """Changes the given fields in one or all environments that have the flag. `defaultVariant` is served where no
        rule decides. `state: DISABLED` does not turn the flag off: each caller then uses its own default.
        """
        await write(request, key, patched(flag_ids(key, environment), body, condition))
        return await found(response, key, environment)

    @router.delete("/flags/{key}", summary="Delete a flag", status_code=204)
    async def delete_flag(
        request: Request, key: StoredKey, condition: Condition, environment: Where = None
    ) -> Response:
        """Deletes the flag and the Redis keys that hold its value; its history stays."""
        if not await write(request, key, deleted(flag_ids(key, environment), condition)):
            await views.one(key, environment)
        return Response(status_code=204)

    @router.get("/flags/{key}/history", summary="Who changed a flag, when, and what")
    async def history(key: FlagKey, limit: Limit = 50, cursor: Cursor = None) -> Page[ChangeView]:
        """Returns the flag's changes in all environments, newest first; also for a deleted flag."""
        entries = await store.history(key, limit=limit, before=cursor)
        if not entries and cursor is None:
            raise NotFound(f"there has never been a flag {key}; GET /flags lists those there are")
        items = [change_view(*entry) for entry in entries]
        return Page(items=items, next=entries[-1][0] if len(entries) == limit else None)

    return router
