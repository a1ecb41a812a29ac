"""Answers HEAD for every path that has GET, and finds the methods of a path for the header `Allow`."""

import asyncio

from starlette.applications import Starlette
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.runtime.loops import cancel

METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


def methods_of(app: Starlette, path: str) -> list[str]:
    """Returns all HTTP methods of the path, from all routers of the app; none for a path below a mount (static files,
    git).
    """
    routes = [route for route in app.routes if not isinstance(route, Mount)]

    def has(method: str) -> bool:
        # A scope of its own for each: FastAPI writes into it.
        scopes = ({"type": "http", "path": path, "root_path": "", "method": method} for _ in routes)
        return any(route.matches(scope)[0] is Match.FULL for route, scope in zip(routes, scopes, strict=True))

    found = [method for method in METHODS if has(method)]
    return sorted([*found, "HEAD"]) if "GET" in found else found


class HeadAsGet:
    """Answers HEAD (as ASGI middleware) by running the route of GET until that route has sent its headers. So a HEAD of
    an endless event stream ends, too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        if not is_head or "HEAD" not in methods_of(scope["app"], scope["path"]):
            await self._app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}
        answered = asyncio.Event()

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                answered.set()

        async def work() -> None:
            await self._app(as_get, receive, send_head)

        working, waiting = asyncio.create_task(work()), asyncio.create_task(answered.wait())
        try:
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            await cancel([working, waiting])
            scope["route"] = as_get.get("route")  # for the metrics
