"""Derives and checks the token of an app and the ticket of a stream; names the user who makes a change."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.models import Environment
from shared.security.auth import basic_login, derived_secret, same_secret

OFREP = "/ofrep/"
STREAM = "/ofrep/v1/stream"
TICKET = "ticket"
ANYBODY = "platform"


def app_token(platform_token: str, environment: Environment) -> str:
    """Returns the token with which an app evaluates the flags of its environment: `<environment>.<secret>`."""
    return f"{environment}.{derived_secret(platform_token, f'flags:{environment}')}"


def stream_ticket(platform_token: str, environment: Environment) -> str:
    """Returns a ticket, `<environment>.<secret>`, which gives access to the environment's stream of change
    notifications and to nothing else.
    """
    return f"{environment}.{derived_secret(platform_token, f'flags:stream:{environment}')}"


def accepts_app_tokens(platform_token: str) -> Callable[[Scope, str], bool]:
    """Returns a function for `create_app(accepts=…)`, which returns True for apps' tokens for OFREP and for tickets of
    OFREP's stream. It also sets the request's environment to that of the token or ticket.
    """
    tokens = {environment: app_token(platform_token, environment) for environment in Environment}
    tickets = {environment: stream_ticket(platform_token, environment) for environment in Environment}

    def accepts(scope: Scope, given: str) -> bool:
        for environment in Environment:
            is_token = scope["path"].startswith(OFREP) and same_secret(given, tokens[environment])
            is_ticket = scope["path"] == STREAM and same_secret(given, tickets[environment])
            if is_token or is_ticket:
                scope.setdefault("state", {})["environment"] = environment
                return True
        return False

    return accepts


class TicketInAddress:
    """Moves the ticket of a stream, `?ticket=`, from the address to the header `X-API-Key` (as ASGI middleware in front
    of the token check). OpenFeature's web providers open streams with EventSource, which cannot send a header.
    Therefore OFREP allows credentials in the address (ADR 8 of its protocol).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == STREAM:
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            tickets = [value for name, value in query if name == TICKET]
            rest = urlencode([(name, value) for name, value in query if name != TICKET])
            scope = {**scope, "query_string": rest.encode(), "headers": list(scope["headers"])}
            headers = MutableHeaders(scope=scope)
            if tickets and "authorization" not in headers and "x-api-key" not in headers:
                headers["x-api-key"] = tickets[0]
        await self._app(scope, receive, send)


def actor(headers: Mapping[str, str]) -> str:
    """Returns the user name of HTTP Basic, or `platform` if there is none. All users share one password, so the name
    proves nothing.
    """
    user, _ = basic_login(headers.get("authorization", ""))
    return re.sub(r"[^\w.@+ -]", "", user).strip()[:64] or ANYBODY
