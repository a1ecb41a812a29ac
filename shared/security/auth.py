"""Authenticates callers by the platform's token (Bearer, HTTP Basic or X-API-Key), and derives secrets from it."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import Forbidden, Problem, Unauthorized

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def derived_secret(token: str, purpose: str) -> str:
    """Returns a secret for one purpose (`flags:production`, `redis:app`): 64 hex digits, from which the token cannot be
    computed. It depends only on its arguments, so that two services compute the same secret.
    """
    return hmac.new(token.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def same_secret(given: str, expected: str) -> bool:
    """Returns True if two secrets are equal. The time that it takes does not depend on where they differ."""
    return hmac.compare_digest(given.encode(), expected.encode())


class TokenAuth:
    """Passes on requests (as ASGI middleware) that need no token (`is_public(scope)` is True) or have a valid one: the
    platform's, or one for which `accepts(scope, token)` is True. Any other request gets 401. A request with a valid
    token in HTTP Basic gets 403 if it changes state and a browser sent it from a page of another site.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        is_public: Callable[[Scope], bool],
        accepts: Callable[[Scope, str], bool] = lambda scope, token: False,
    ) -> None:
        self._app = app
        self._token = token
        self._is_public = is_public
        self._accepts = accepts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_public(scope):
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except Problem as problem:
            headers = {}
            if isinstance(problem, Unauthorized):
                # Scripts that accept JSON get no challenge for Basic, because a browser would open its password dialog.
                wants_json = "application/json" in HTTPConnection(scope).headers.get("accept", "")
                headers["WWW-Authenticate"] = "Bearer" if wants_json else 'Basic realm="slipway", charset="UTF-8"'
            body = problem.document()
            response = JSONResponse(body, problem.status, headers, media_type="application/problem+json")
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = HTTPConnection(scope).headers
        authorization = headers.get("authorization", "")
        scheme, _, value = authorization.partition(" ")
        given = value.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if scheme.lower() == "basic":
            given = basic_login(authorization)[1]
        if not given:
            raise Unauthorized("this needs the platform's token: Authorization: Bearer <token>")
        if not (same_secret(given, self._token) or self._accepts(scope, given)):
            raise Unauthorized("the token is wrong; the platform keeps it in SLIPWAY_TOKEN or <home>/token")
        if scheme.lower() == "basic" and scope["method"] not in SAFE_METHODS and _is_cross_site(headers):
            raise Forbidden("a page of another origin may not change state here; use the platform's own pages")


def basic_login(authorization: str) -> tuple[str, str]:
    """Returns (user, password) from the header `Authorization: Basic …`; two empty texts for any other header."""
    scheme, _, value = authorization.partition(" ")
    try:
        login = base64.b64decode(value.strip(), validate=True).decode() if scheme.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    user, _, password = login.partition(":")
    return user, password


def _is_cross_site(headers: Mapping[str, str]) -> bool:
    """Returns True if a browser sent the request from a page of another origin, since browsers add stored Basic
    credentials to such requests too. Returns False if neither `Sec-Fetch-Site` nor `Origin` is present, as for git and
    curl.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None and origin is None:
        return False
    return not (site == "same-origin" or (origin is not None and urlsplit(origin).netloc == headers.get("host")))
