"""Calls as the forges make them, signed."""

import hashlib
import hmac
import json
from typing import Any, NamedTuple

from services.build.git.remote_source import Forge

SECRET = "secret-of-the-webhook"
BEFORE, COMMIT = "1" * 40, "2" * 40


class Call(NamedTuple):
    headers: dict[str, str]
    body: bytes


def call(
    forge: Forge,
    *,
    ref: str = "refs/heads/release",
    commit: str = COMMIT,
    message: str = "Say hello",
    delivery: str = "d-1",
    event: str = "",
    secret: str = SECRET,
    **changes: Any,
) -> Call:
    """A push, or the `event` of that name; `changes` of the payload's keys."""
    make = {Forge.GITHUB: github_push, Forge.GITEA: gitea_push, Forge.GITLAB: gitlab_push}[forge]
    body = json.dumps({**make(ref, commit, message), **changes}).encode()
    return Call(headers(forge, body, delivery, event, secret), body)


def headers(forge: Forge, body: bytes, delivery: str = "d-1", event: str = "", secret: str = SECRET) -> dict[str, str]:
    """Without an event: a push's."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    named = {
        Forge.GITHUB: {
            "user-agent": "GitHub-Hookshot/a1b2c3d",
            "x-github-event": event or "push",
            "x-github-delivery": delivery,
            "x-hub-signature": "sha1=" + "0" * 40,
            "x-hub-signature-256": f"sha256={signature}",
        },
        Forge.GITEA: {
            "x-gitea-event": event or "push",
            "x-gitea-event-type": event or "push",
            "x-gitea-delivery": delivery,
            "x-gitea-signature": signature,
            "x-gogs-event": event or "push",
            "x-github-event": event or "push",
            "x-github-delivery": delivery,
            "x-hub-signature-256": f"sha256={signature}",
        },
        Forge.GITLAB: {
            "user-agent": "GitLab/17.9.0",
            "x-gitlab-event": event or "Push Hook",
            "x-gitlab-event-uuid": delivery,
            "x-gitlab-webhook-uuid": "one-for-the-hook",
            "x-gitlab-token": secret,
        },
    }[forge]
    return {"content-type": "application/json", **named}


def github_push(ref: str, commit: str, message: str) -> dict[str, Any]:
    head = {
        "id": commit,
        "tree_id": "3" * 40,
        "distinct": True,
        "message": message,
        "timestamp": "2026-01-01T12:00:00Z",
        "url": f"https://github.com/octo/notes/commit/{commit}",
        "author": {"name": "Octo", "email": "octo@example.com", "username": "octo"},
        "committer": {"name": "GitHub", "email": "noreply@github.com", "username": "web-flow"},
        "added": [],
        "removed": [],
        "modified": ["app.py"],
    }
    return {
        "ref": ref,
        "before": BEFORE,
        "after": commit,
        "repository": {"id": 1, "full_name": "octo/notes", "clone_url": "https://github.com/octo/notes.git"},
        "pusher": {"name": "octo", "email": "octo@example.com"},
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": "https://github.com/octo/notes/compare/1111...2222",
        "commits": [head],
        "head_commit": head,
    }


def gitea_push(ref: str, commit: str, message: str) -> dict[str, Any]:
    head = {
        "id": commit,
        "message": f"{message}\n",
        "url": f"https://gitea.example/octo/notes/commit/{commit}",
        "author": {"name": "Octo", "email": "octo@example.com", "username": "octo"},
        "committer": {"name": "Octo", "email": "octo@example.com", "username": "octo"},
        "verification": None,
        "timestamp": "2026-01-01T12:00:00Z",
        "added": [],
        "removed": [],
        "modified": ["app.py"],
    }
    return {
        "ref": ref,
        "before": BEFORE,
        "after": commit,
        "compare_url": "https://gitea.example/octo/notes/compare/1111...2222",
        "commits": [head],
        "total_commits": 1,
        "head_commit": head,
        "repository": {"id": 1, "full_name": "octo/notes", "clone_url": "https://gitea.example/octo/notes.git"},
        "pusher": {"id": 1, "login": "octo"},
        "sender": {"id": 1, "login": "octo"},
    }


def gitlab_push(ref: str, commit: str, message: str) -> dict[str, Any]:
    earlier = {"id": BEFORE, "message": "Earlier [skip ci]\n", "title": "Earlier", "author": {"name": "Octo"}}
    head = {"id": commit, "message": f"{message}\n", "title": message, "author": {"name": "Octo"}}
    return {
        "object_kind": "push",
        "event_name": "push",
        "before": "4" * 40,
        "after": commit,
        "ref": ref,
        "ref_protected": True,
        "checkout_sha": commit,
        "message": None,
        "user_username": "octo",
        "project_id": 1,
        "project": {"id": 1, "path_with_namespace": "group/octo/notes"},
        "commits": [earlier, head],
        "total_commits_count": 2,
        "push_options": {},
    }
