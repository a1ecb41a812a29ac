"""Who may ask for what: an app's token, the ticket in a stream's address, the name under which a change is kept."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.models import Environment
from shared.security.auth import derived_secret, same_secret

OFREP = "/ofrep/"
STREAM = "/ofrep/v1/stream"
TICKET = "ticket"
ANYBODY = "platform"


def app_token(platform_token: str, environment: Environment) -> str:
    """What an app evaluates the flags of its environment with: `<environment>.<secret>`."""
    return f"{environment}.{derived_secret(platform_token, f'flags:{environment}')}"


def stream_ticket(platform_token: str, environment: Environment) -> str:
    """Good for hearing that flags of the environment changed, and for nothing else: not even what they are."""
    return f"{environment}.{derived_secret(platform_token, f'flags:stream:{environment}')}"


def accepts_app_tokens(platform_token: str) -> Callable[[Scope, str], bool]:
    """For create_app: apps' tokens are good for OFREP, tickets for its stream; both select their environment."""
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
    """ASGI middleware before the one that checks tokens: a stream's `?ticket=` goes the way of `X-API-Key`, and out of
    the address. OpenFeature's web providers open streams by EventSource, which cannot send a header; OFREP therefore
    lets the address carry what is needed (ADR 8 of its protocol).
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
    """The user of HTTP Basic, else `platform`. Everybody has the same token: a note who it was, no proof."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ANYBODY
    try:
        user = base64.b64decode(value.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ANYBODY
    return re.sub(r"[^\w.@+ -]", "", user).strip()[:64] or ANYBODY
