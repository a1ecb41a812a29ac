"""Refuses a request whose query has a key that the call does not know: if it were ignored, nobody would notice a typing
error.
"""

from collections.abc import Awaitable, Callable

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from shared.security.auth import SAFE_METHODS
from shared.web.pages import wants_page


def query_check(is_open: Callable[[Request], bool]) -> Callable[[Request], Awaitable[None]]:
    """Returns a dependency for all routes, which raises RequestValidationError if the query has an unknown key. Calls
    for which `is_open(request)` returns True may have any keys, and so may requests for pages, since other sites add
    keys to links (`utm_source`).
    """

    async def check(request: Request) -> None:
        route = request.scope["route"]
        if not request.query_params or _is_page(request, route) or is_open(request):
            return
        known = query_keys(route.dependant)
        if unknown := sorted(set(request.query_params) - known):
            detail = f"there is no such key; this call knows {', '.join(sorted(known)) or 'none'}"
            raise RequestValidationError([{"loc": ("query", key), "msg": detail, "type": "unknown"} for key in unknown])

    return check


def query_keys(dependant: Dependant) -> set[str]:
    """Returns the query keys that the route itself or one of its dependencies reads."""
    own = {field.alias for field in dependant.query_params}
    return own.union(*(query_keys(each) for each in dependant.dependencies))


def _is_page(request: Request, route: APIRoute) -> bool:
    as_page = route.response_class is HTMLResponse or wants_page(request.headers.get("accept"))
    return request.method in SAFE_METHODS and as_page
