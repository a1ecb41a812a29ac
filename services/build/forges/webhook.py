"""Reads a forge's webhook call: its signature, its delivery id, and what was pushed. Pure. GitHub signs in
X-Hub-Signature-256, Gitea also in X-Gitea-Signature; GitLab sends the secret itself in X-Gitlab-Token."""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from services.build.git.remote_source import Forge

LARGEST_BYTES = 5 * 2**20
NO_COMMIT = "0" * 40
KEPT_CHARACTERS = 200
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_SKIP = re.compile(r"\[(?:ci skip|skip ci)\]", re.IGNORECASE)
_EVENT = {Forge.GITHUB: "x-github-event", Forge.GITEA: "x-gitea-event", Forge.GITLAB: "x-gitlab-event"}
# GitLab's event id is shared by the hooks that follow from one another; its idempotency key is not.
_DELIVERY = {
    Forge.GITHUB: ("x-github-delivery",),
    Forge.GITEA: ("x-gitea-delivery", "x-github-delivery"),
    Forge.GITLAB: ("idempotency-key", "x-gitlab-event-uuid"),
}
_PUSHES = {"push", "Push Hook"}


class BadPayload(ValueError):
    """Reports that a signed body is not what the forge documents; the message says why."""


@dataclass(frozen=True)
class Notice:
    """Describes what a webhook call reports: a branch's new head, or else, in `ignored`, why there is nothing to
    build.
    """

    event: str
    """Event type as the forge names it."""
    branch: str | None = None
    commit: str | None = None
    ignored: str = ""


def is_signed(forge: Forge, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Returns True if `body` is signed with `secret`. Compares in constant time. Header names are in lower case."""
    if forge is Forge.GITLAB:
        return hmac.compare_digest(headers.get("x-gitlab-token", "").encode(), secret.encode())
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    given = headers.get("x-hub-signature-256", "")
    if forge is Forge.GITEA and not given:
        given = f"sha256={headers.get('x-gitea-signature', '')}"
    return hmac.compare_digest(given.encode(), f"sha256={expected}".encode())


def delivery_of(forge: Forge, headers: Mapping[str, str], body: bytes) -> str:
    """Returns the id by which repeated deliveries are recognised: the forge's own, else a digest of the body."""
    given = next((headers[name] for name in _DELIVERY[forge] if headers.get(name)), "")
    return given[:KEPT_CHARACTERS] or f"sha256:{hashlib.sha256(body).hexdigest()}"


def read(forge: Forge, headers: Mapping[str, str], body: bytes) -> Notice:
    """Returns what the webhook call reports. Raises BadPayload if the body is not what the forge documents."""
    event = headers.get(_EVENT[forge], "")[:KEPT_CHARACTERS]
    payload = _payload(headers.get("content-type", ""), body)
    if event == "ping":
        return Notice(event, ignored="a ping; the webhook is set up well")
    if event not in _PUSHES:
        return Notice(event, ignored=f"{event or 'an event without a name'} is not a push of a branch; nothing to do")
    return _push(event, payload)


def skips(message: str) -> bool:
    """Returns True if a commit's message asks not to build it: it contains `[CI SKIP]` or `[SKIP CI]`, in any case."""
    return _SKIP.search(message) is not None


def skip_reason(commit: str) -> str:
    return f"the message of {commit[:10]} says [CI SKIP]; nothing is built"


def _payload(content_type: str, body: bytes) -> dict[str, Any]:
    try:
        if content_type.startswith("application/x-www-form-urlencoded"):  # GitHub's other way of sending it
            body = parse_qs(body.decode(), strict_parsing=True)["payload"][0].encode()
        payload = json.loads(body)
    except (ValueError, KeyError, RecursionError):
        raise BadPayload("the body is not JSON; set the webhook's content type to application/json") from None
    if not isinstance(payload, dict):
        raise BadPayload("the body is JSON, but no object")
    return payload


def _push(event: str, payload: dict[str, Any]) -> Notice:
    ref, commit = payload.get("ref"), payload.get("after")
    if not isinstance(ref, str) or not ref.isprintable():
        raise BadPayload("`ref` is missing, or is not the name of a branch or tag")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise BadPayload("`after` is missing, or is not a commit id of 40 hex digits")
    if not ref.startswith("refs/heads/") or len(ref) > KEPT_CHARACTERS + len("refs/heads/"):
        return Notice(event, ignored=f"{ref[:KEPT_CHARACTERS]} is not a branch; nothing to build")
    branch = ref.removeprefix("refs/heads/")
    if commit == NO_COMMIT or payload.get("deleted") is True:
        return Notice(event, branch, ignored=f"{branch} is deleted; nothing to build")
    return Notice(event, branch, commit, ignored=skip_reason(commit) if skips(_message(payload, commit)) else "")


def _message(payload: dict[str, Any], commit: str) -> str:
    """Returns the message of the pushed head commit; empty if the payload lacks it."""
    commits = payload.get("commits")
    candidates = [payload.get("head_commit"), *(commits if isinstance(commits, list) else [])]
    for each in candidates:
        if isinstance(each, dict) and each.get("id") == commit and isinstance(each.get("message"), str):
            return str(each["message"])
    return ""
