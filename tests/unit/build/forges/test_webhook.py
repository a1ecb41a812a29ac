"""Signatures, ids and pushes are read from the forges' calls, and everything else is refused or ignored."""

import json
from urllib.parse import urlencode

import pytest

from services.build.forges.webhook import BadPayload, Notice, delivery_of, is_signed, read, skips
from services.build.git.remote_source import Forge
from tests.support.build.webhooks import COMMIT, SECRET, call, headers

FORGES = list(Forge)
SIGNATURES = {
    Forge.GITHUB: ["x-hub-signature-256"],
    Forge.GITEA: ["x-hub-signature-256", "x-gitea-signature"],
    Forge.GITLAB: ["x-gitlab-token"],
}


@pytest.mark.parametrize("forge", FORGES)
def test_a_call_is_signed_with_the_secret_and_with_no_other(forge: Forge) -> None:
    good = call(forge)
    assert is_signed(forge, good.headers, good.body, SECRET)
    assert not is_signed(forge, call(forge, secret="another").headers, good.body, SECRET)
    for name in SIGNATURES[forge]:
        good.headers[name] = ""
    assert not is_signed(forge, good.headers, good.body, SECRET)
    for name in SIGNATURES[forge]:
        del good.headers[name]
    assert not is_signed(forge, good.headers, good.body, SECRET)


@pytest.mark.parametrize("forge", [Forge.GITHUB, Forge.GITEA])
def test_a_changed_body_is_not_signed(forge: Forge) -> None:
    good = call(forge)
    assert not is_signed(forge, good.headers, good.body + b" ", SECRET)


def test_the_example_of_github_holds() -> None:
    """From GitHub's "Validating webhook deliveries"."""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    body = b"Hello, World!"
    assert is_signed(Forge.GITHUB, {"x-hub-signature-256": signature}, body, "It's a Secret to Everybody")


def test_gitea_may_sign_in_its_own_way_alone() -> None:
    good = call(Forge.GITEA)
    del good.headers["x-hub-signature-256"]
    assert is_signed(Forge.GITEA, good.headers, good.body, SECRET)
    assert not is_signed(Forge.GITHUB, good.headers, good.body, SECRET)


def test_what_is_no_ascii_is_no_signature() -> None:
    good = call(Forge.GITHUB)
    assert not is_signed(Forge.GITHUB, {"x-hub-signature-256": "sha256=ü"}, good.body, SECRET)
    assert not is_signed(Forge.GITLAB, {"x-gitlab-token": "ü"}, good.body, SECRET)


@pytest.mark.parametrize("forge", FORGES)
def test_a_push_names_branch_and_commit(forge: Forge) -> None:
    push = call(forge, ref="refs/heads/feature/a")
    event = "Push Hook" if forge is Forge.GITLAB else "push"
    assert read(forge, push.headers, push.body) == Notice(event, "feature/a", COMMIT)
    assert delivery_of(forge, push.headers, push.body) == "d-1"


def test_github_may_send_a_form() -> None:
    body = urlencode({"payload": call(Forge.GITHUB).body.decode()}).encode()
    form = {**headers(Forge.GITHUB, body), "content-type": "application/x-www-form-urlencoded"}
    assert read(Forge.GITHUB, form, body).commit == COMMIT


def test_gitlabs_idempotency_key_goes_before_the_id_of_the_event() -> None:
    push = call(Forge.GITLAB)
    assert delivery_of(Forge.GITLAB, {**push.headers, "idempotency-key": "k"}, push.body) == "k"


def test_without_an_id_the_body_is_the_id() -> None:
    one, other = call(Forge.GITHUB, delivery=""), call(Forge.GITHUB, delivery="", message="other")
    ids = {delivery_of(Forge.GITHUB, each.headers, each.body) for each in (one, one, other)}
    assert len(ids) == 2


@pytest.mark.parametrize("forge", FORGES)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ref": "refs/tags/v1"}, "refs/tags/v1 is not a branch"),
        ({"commit": "0" * 40}, "release is deleted"),
        ({"message": "Typo\n\n[Ci Skip]"}, "the message of 2222222222 says [CI SKIP]"),
    ],
)
def test_what_is_not_to_be_built_is_said(forge: Forge, changes: dict[str, str], reason: str) -> None:
    push = call(forge, **changes)
    assert read(forge, push.headers, push.body).ignored.startswith(reason)


def test_a_skipped_commit_below_the_head_skips_nothing() -> None:
    push = call(Forge.GITLAB)
    assert b"[skip ci]" in push.body
    assert read(Forge.GITLAB, push.headers, push.body).ignored == ""


@pytest.mark.parametrize(
    ("message", "skipped"),
    [("[CI SKIP] x", True), ("x\n\n[skip ci]", True), ("x [Skip CI]", True), ("ci skip", False), ("[ciskip]", False)],
)
def test_a_message_may_ask_to_be_skipped(message: str, skipped: bool) -> None:
    assert skips(message) is skipped


@pytest.mark.parametrize(
    ("forge", "event"), [(Forge.GITHUB, "issues"), (Forge.GITEA, "release"), (Forge.GITLAB, "Tag Push Hook")]
)
def test_other_events_are_ignored(forge: Forge, event: str) -> None:
    other = call(forge, event=event)
    assert f"{event} is not a push of a branch" in read(forge, other.headers, other.body).ignored


def test_a_ping_is_heard() -> None:
    body = json.dumps({"zen": "Keep it logically awesome.", "hook_id": 1}).encode()
    assert "is set up well" in read(Forge.GITHUB, headers(Forge.GITHUB, body, event="ping"), body).ignored


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"1" * 10_000, "is not JSON"),
        (b"[1]", "no object"),
        (b"{}", "`ref` is missing"),
        (b'{"ref": 1}', "`ref` is missing"),
        (b'{"ref": "refs/heads/\\ud800", "after": "' + b"2" * 40 + b'"}', "`ref` is missing"),
        (b'{"ref": "refs/heads/a"}', "`after` is missing"),
        (b'{"ref": "refs/heads/a", "after": "HEAD"}', "`after` is missing"),
        (b'{"ref": "refs/heads/a", "after": "' + b"2" * 40 + b'\\n"}', "`after` is missing"),
    ],
)
def test_a_bad_payload_is_refused_with_its_fault(body: bytes, fault: str) -> None:
    with pytest.raises(BadPayload, match=fault):
        read(Forge.GITHUB, headers(Forge.GITHUB, body), body)


def test_a_strange_list_of_commits_is_no_message() -> None:
    push = call(Forge.GITHUB, commits=[1, None, {"id": COMMIT}], head_commit="x")
    assert read(Forge.GITHUB, push.headers, push.body).commit == COMMIT
