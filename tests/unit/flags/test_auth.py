"""Tokens of apps, tickets of streams, and the name under which a change is kept."""

import base64
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from services.flags.auth import TicketInAddress, accepts_app_tokens, actor, app_token, stream_ticket
from shared.models import Environment

PRODUCTION, CANARY = Environment
TOKEN, TICKET = app_token("secret", CANARY), stream_ticket("secret", CANARY)


@pytest.mark.parametrize(
    ("path", "given", "environment"),
    [
        ("/ofrep/v1/evaluate/flags/k", TOKEN, CANARY),
        ("/ofrep/v1/stream", TOKEN, CANARY),
        ("/ofrep/v1/stream", TICKET, CANARY),
        ("/ofrep/v1/evaluate/flags", TICKET, None),
        ("/ofrep/v1/stream/", TICKET, None),
        ("/flags", TOKEN, None),
        ("/ofrep/v1/stream", app_token("other", CANARY), None),
        ("/ofrep/v1/stream", TICKET.replace("canary", "production"), None),
        ("/ofrep/v1/stream", "canary.", None),
    ],
)
def test_a_token_is_good_for_its_paths_and_environment(path: str, given: str, environment: Environment | None) -> None:
    scope: dict[str, Any] = {"path": path}
    assert accepts_app_tokens("secret")(scope, given) is (environment is not None)
    assert scope.get("state", {}).get("environment") == environment


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "query", "headers", "key", "rest"),
    [
        ("/ofrep/v1/stream", b"ticket=a.b&environment=canary", [], "a.b", b"environment=canary"),
        ("/ofrep/v1/stream", b"environment=canary", [], None, b"environment=canary"),
        ("/ofrep/v1/stream", b"ticket=a.b", [(b"authorization", b"Bearer x")], None, b""),
        ("/ofrep/v1/stream", b"ticket=a.b", [(b"x-api-key", b"x")], "x", b""),
        ("/flags", b"ticket=a.b", [], None, b"ticket=a.b"),
    ],
)
async def test_a_ticket_leaves_the_address(
    path: str, query: bytes, headers: list[tuple[bytes, bytes]], key: str | None, rest: bytes
) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def nothing(*message: Any) -> Any: ...

    given = {"type": "http", "path": path, "query_string": query, "headers": headers}
    await TicketInAddress(app)(given, nothing, nothing)
    found = {name.decode(): value.decode() for name, value in seen[0]["headers"]}
    assert (found.get("x-api-key"), seen[0]["query_string"]) == (key, rest)
    assert given["query_string"] == query  # the caller's own scope stays as it was


def basic(user: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:secret".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({}, "platform"),
        ({"authorization": "Bearer x"}, "platform"),
        ({"authorization": "Basic ?"}, "platform"),
        (basic("ann"), "ann"),
        (basic("Jörg M. <b>"), "Jörg M. b"),
        (basic("\n"), "platform"),
        (basic("x" * 100), "x" * 64),
    ],
)
def test_the_name_under_which_a_change_is_kept(headers: dict[str, str], name: str) -> None:
    assert actor(headers) == name
