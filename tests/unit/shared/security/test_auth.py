"""The token at the door: every way to be refused, every way in."""

import base64
from collections.abc import Mapping

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shared.security.auth import TokenAuth, derived_secret

TOKEN = "the-platform-token"
EVALUATION = derived_secret(TOKEN, "flags:production")


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def client() -> httpx.AsyncClient:
    app = Starlette(routes=[Route("/{path:path}", hello, methods=["GET", "POST"])])
    guarded = TokenAuth(
        app,
        token=TOKEN,
        is_public=lambda scope: scope["path"] == "/health",
        accepts=lambda scope, token: scope["path"].startswith("/ofrep/") and token == EVALUATION,
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://slipway.test")


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/health", {}, 200),
        ("GET", "/health/", {}, 401),
        ("GET", "/builds", {}, 401),
        ("GET", "/builds", bearer("wrong"), 401),
        ("GET", "/builds", bearer(""), 401),
        ("GET", "/builds", bearer(TOKEN[:-1]), 401),
        ("GET", "/builds", {"Authorization": "Basic %%%"}, 401),
        ("GET", "/builds", {"Authorization": TOKEN}, 401),
        ("GET", "/builds", bearer("tökén".encode().decode("latin-1")), 401),
        ("GET", "/builds", bearer(TOKEN), 200),
        ("GET", "/builds", {"X-API-Key": TOKEN}, 200),
        ("GET", "/builds", basic(TOKEN), 200),
        ("GET", "/builds", basic("wrong"), 401),
        ("GET", "/flags", bearer(EVALUATION), 401),
        ("POST", "/ofrep/v1/x", bearer(EVALUATION), 200),
        ("POST", "/git/x", basic(TOKEN), 200),  # git and curl send no browser headers
        ("POST", "/x", basic(TOKEN) | {"Sec-Fetch-Site": "same-origin"}, 200),
        ("POST", "/x", basic(TOKEN) | {"Origin": "http://slipway.test"}, 200),
        ("POST", "/x", basic(TOKEN) | {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "/x", basic(TOKEN) | {"Sec-Fetch-Site": "none"}, 403),
        ("POST", "/x", basic(TOKEN) | {"Origin": "http://evil.test"}, 403),
        ("POST", "/x", basic(TOKEN) | {"Origin": "null"}, 403),
        ("POST", "/x", bearer(TOKEN) | {"Origin": "http://evil.test"}, 200),  # no browser sends a Bearer by itself
    ],
)
async def test_who_gets_in(method: str, path: str, headers: Mapping[str, str], status: int) -> None:
    raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
    async with client() as http:
        answer = await http.request(method, path, headers=raw)
    assert answer.status_code == status
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert TOKEN not in answer.text


@pytest.mark.anyio
async def test_git_and_browsers_are_asked_for_basic_but_scripts_are_not() -> None:
    async with client() as http:
        page = await http.get("/", headers={"Accept": "text/html"})
        script = await http.get("/", headers={"Accept": "application/json"})
    assert page.headers["www-authenticate"].startswith('Basic realm="slipway"')
    assert script.headers["www-authenticate"] == "Bearer"


def test_a_derived_secret_is_for_one_purpose() -> None:
    assert derived_secret(TOKEN, "flags:production") == EVALUATION
    assert derived_secret(TOKEN, "flags:canary") != EVALUATION
    assert derived_secret("another", "flags:production") != EVALUATION
