"""Adds the headers by which browsers protect a service's pages."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",  # charts and the bars of a build's times set their styles inline
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in CONTENT_POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would send `Origin: null` with forms
}


class SecurityHeaders:
    """Adds the headers by which browsers protect pages, such as Content-Security-Policy, to every answer (as ASGI
    middleware). Adds `Cache-Control: no-store` too, unless the answer has a `Cache-Control` or `ETag`, so that pages
    which need a token do not stay in a browser's cache.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                protect(MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, send_with_headers)


def protect(headers: MutableHeaders) -> None:
    """Adds the headers by which browsers protect pages to the headers of an answer; a header that is already set stays.
    Adds `Cache-Control: no-store`, unless there is an `ETag` or `Cache-Control`.
    """
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if "etag" not in headers:
        headers.setdefault("Cache-Control", "no-store")
