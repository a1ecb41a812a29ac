"""Serves the page of all flags, and the requests of its buttons."""

from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from services.flags.api import Condition, Seen, Where, page_response
from services.flags.auth import actor
from services.flags.cache import FlagCache
from services.flags.change import Precondition, Rules, flag_ids, switched
from services.flags.flag import FlagKey
from services.flags.page import FlagPages, list_query
from services.flags.view import FlagView, Views
from shared.clock import now
from shared.errors import Problem
from shared.store import RedisError, redis_unavailable
from shared.web.openapi import SEE_OTHER, UNCHANGED_PAGE
from shared.web.pages import wants_page

CHANGED_MEANWHILE = "It has changed since your page was loaded. Look at what it is now, and decide again."


def page_router(cache: FlagCache, views: Views, pages: FlagPages) -> APIRouter:
    router = APIRouter(tags=["pages"])

    @router.get("/", response_class=HTMLResponse, summary="Flags as a page", responses=UNCHANGED_PAGE)
    async def flags_page(
        request: Request,
        search: Annotated[str, Query(max_length=128, description="Text that the keys contain.")] = "",
        cursor: Annotated[str, Query(max_length=128, description="The last key of the previous page.")] = "",
        seen: Seen = None,
    ) -> Response:
        """Shows the flags, 50 on a page, sorted by key: each in every environment, side by side, with buttons that
        switch it.
        """
        return page_response(await pages.overview(search.strip(), cursor, seen, request.url.hostname))

    @router.post(
        "/flags/{key}/switch",
        response_model=FlagView,
        summary="Serve one variant from now on",
        responses=SEE_OTHER,
    )
    async def switch(
        request: Request,
        response: Response,
        key: FlagKey,
        condition: Condition,
        to: Annotated[str, Query(max_length=200, description="The variant's name.")],
        environment: Where = None,
        rules: Annotated[
            Rules,
            Query(description="`keep`: rules decide first; `aside`: everybody gets `to`; `back`: rules are restored."),
        ] = "keep",
        seen: Annotated[str | None, Query(max_length=64, description="If-Match without quotes, for forms.")] = None,
    ) -> FlagView | Response:
        """Enables the flag and makes `to` its default variant. With `rules=aside`, this is a kill switch: everyone gets
        `to`, and the disabled rules are kept for `rules=back`. A browser is redirected to the page that it came from.
        """
        if seen is not None:
            condition = Precondition(if_match=f'"{seen}"')
        try:
            decide = switched(flag_ids(key, environment), to, rules, condition)
            await cache.change([key], decide, actor=actor(request.headers), at=now())
            view, response.headers["ETag"] = await views.one(key, environment)
        except (Problem, RedisError) as error:
            if not _from_page(request):
                raise
            problem = error if isinstance(error, Problem) else redis_unavailable(error)
            return _problem_page(pages, problem, key, request)
        if _from_page(request):
            return RedirectResponse(_back(request, key), status_code=303)
        return view

    return router


def _from_page(request: Request) -> bool:
    return wants_page(request.headers.get("accept"))


def _problem_page(pages: FlagPages, problem: Problem, key: str, request: Request) -> HTMLResponse:
    stale = problem.status == 412
    title = "Not switched: somebody else changed the flag first" if stale else "Not switched"
    page = pages.problem(title, CHANGED_MEANWHILE if stale else problem.detail, key, request.url.hostname)
    return HTMLResponse(page, problem.status)


def _back(request: Request, key: str) -> str:
    """Returns the address of the page to which a button leads back: the flag's own page if the Referer header names it,
    else the page of the list.
    """
    came_from = urlsplit(request.headers.get("referer", ""))
    if came_from.path == f"/flags/{key}":
        return came_from.path
    given = parse_qs(came_from.query)
    query = list_query(*(given.get(name, [""])[0] for name in ("search", "cursor")))
    return f"/?{query}#{key}" if query else f"/#{key}"
