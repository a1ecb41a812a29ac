"""Answers 400 to each request whose Host is not its own."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello from strict-host")


app = Starlette(
    routes=[Route("/", hello)],
    middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["strict-host.localhost"])],
)
