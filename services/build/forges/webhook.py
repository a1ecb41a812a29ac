"""Reads a forge's webhook call: its signature, its delivery id, and what was pushed. Pure. GitHub's signature is in
X-Hub-Signature-256, Gitea's there or in X-Gitea-Signature; GitLab sends the secret itself in X-Gitlab-Token.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from services.build.git.remote_source import Forge

LARGEST_BYTES = 25 * 2**20  # GitHub sends no larger payload
KEPT_BYTES = 5 * 2**20
NO_COMMIT = "0" * 40
KEPT_CHARACTERS = 200
_COMMIT = re.compile(r"[0-9a-f]{40}")
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
    """Reports that the body of a webhook call, although signed, is not what the forge documents; the message says
    why.
    """


class Body:
    """Takes the body of a webhook call as it arrives; keeps its first 5 MB and computes a signature, with `secret`, of
    all of it. The signature can be checked only at the end, and callers may send up to 25 MB before, which must not all
    be kept in memory.
    """

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.kept = bytearray()
        self.size = 0
        self._signature = hmac.new(secret.encode(), digestmod=hashlib.sha256)
        self._digest = hashlib.sha256()

    def feed(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.kept += chunk[: max(0, KEPT_BYTES - len(self.kept))]
        self._signature.update(chunk)
        self._digest.update(chunk)

    @property
    def signature(self) -> str:
        return self._signature.hexdigest()

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    @property
    def is_cut(self) -> bool:
        """Returns True if `kept` is only the beginning of the body."""
        return self.size > len(self.kept)


@dataclass(frozen=True)
class Notice:
    """Describes what a webhook call reports: the new head of a branch or, in `ignored`, the reason why there is nothing
    to build.
    """

    event: str
    """Type of the event, as the forge names it."""
    branch: str | None = None
    commit: str | None = None
    before: str | None = None
    """Commit at which the branch was before the push; None if the forge does not send it."""
    ignored: str = ""


def is_signed(forge: Forge, headers: Mapping[str, str], body: Body) -> bool:
    """Returns True if `headers` hold the right signature of `body` (from GitLab, the secret itself). The comparison
    takes a time that does not depend on where signatures differ. Names of `headers` are in lower case.
    """
    if forge is Forge.GITLAB:
        return hmac.compare_digest(headers.get("x-gitlab-token", "").encode(), body.secret.encode())
    given = headers.get("x-hub-signature-256", "")
    if forge is Forge.GITEA and not given:
        given = f"sha256={headers.get('x-gitea-signature', '')}"
    return hmac.compare_digest(given.encode(), f"sha256={body.signature}".encode())


def delivery_of(forge: Forge, headers: Mapping[str, str], body: Body) -> str:
    """Returns the id by which a repeated delivery is recognised: the forge's own id or, without one, a digest of the
    body.
    """
    given = next((headers[name] for name in _DELIVERY[forge] if headers.get(name)), "")
    return given[:KEPT_CHARACTERS] or f"sha256:{body.digest}"


def read(forge: Forge, headers: Mapping[str, str], body: Body) -> Notice:
    """Returns what the webhook call reports. Raises BadPayload if the body is not what the forge documents. Of a body
    above 5 MB, only the part before the list of commits is read; it names the branch, and the branch's head before and
    after the push.
    """
    event = headers.get(_EVENT[forge], "")[:KEPT_CHARACTERS]
    if event == "ping":
        return Notice(event, ignored="a ping; the webhook works")
    if event not in _PUSHES:
        return Notice(event, ignored=f"{event or 'an event without a name'} is not a push of a branch; nothing to do")
    return _push(event, _payload(headers.get("content-type", ""), body))


def skips(message: str) -> bool:
    """Returns True if a commit's message asks not to build it: it contains `[CI SKIP]` or `[SKIP CI]`, in any case."""
    return _SKIP.search(message) is not None


def skip_reason(commit: str) -> str:
    return f"the message of {commit[:10]} says [CI SKIP]; nothing is built"


def _payload(content_type: str, call: Body) -> dict[str, Any]:
    body = bytes(call.kept)
    try:
        if content_type.startswith("application/x-www-form-urlencoded"):  # GitHub can also send the payload as a form
            body = parse_qs(body.decode(), strict_parsing=True)["payload"][0].encode()
        payload = json.loads(_before_commits(body) if call.is_cut else body)
    except (ValueError, KeyError, RecursionError):
        raise BadPayload("the body is not JSON; set the webhook's content type to application/json") from None
    if not isinstance(payload, dict):
        raise BadPayload("the body is JSON, but no object")
    return payload


def _before_commits(body: bytes) -> bytes:
    """Returns the JSON object that begins in `body`, cut before its member `commits`. All forges send the members
    `ref`, `before` and `after` earlier.
    """
    return body.partition(b'"commits"')[0].rstrip().removesuffix(b",") + b"}"


def _push(event: str, payload: dict[str, Any]) -> Notice:
    ref, commit, before = payload.get("ref"), payload.get("after"), payload.get("before")
    if not isinstance(ref, str) or not ref.isprintable():
        raise BadPayload("`ref` is missing, or is not the name of a branch or tag")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise BadPayload("`after` is missing, or is not a commit id of 40 hex digits")
    if not ref.startswith("refs/heads/") or len(ref) > KEPT_CHARACTERS + len("refs/heads/"):
        return Notice(event, ignored=f"{ref[:KEPT_CHARACTERS]} is not a branch; nothing to build")
    branch = ref.removeprefix("refs/heads/")
    if commit == NO_COMMIT or payload.get("deleted") is True:
        return Notice(event, branch, ignored=f"{branch} is deleted; nothing to build")
    known = before if isinstance(before, str) and _COMMIT.fullmatch(before) else None
    return Notice(event, branch, commit, known, ignored=skip_reason(commit) if skips(_message(payload, commit)) else "")


def _message(payload: dict[str, Any], commit: str) -> str:
    """Returns the message of the pushed head commit; empty if the payload lacks it."""
    commits = payload.get("commits")
    candidates = [payload.get("head_commit"), *(commits if isinstance(commits, list) else [])]
    for each in candidates:
        if isinstance(each, dict) and each.get("id") == commit and isinstance(each.get("message"), str):
            return str(each["message"])
    return ""
