"""Signatures, ids and pushes are read from the forges' calls, and everything else is refused or ignored."""

import json
from urllib.parse import urlencode

import pytest

from services.build.forges.webhook import KEPT_BYTES, BadPayload, Body, Notice, delivery_of, is_signed, read, skips
from services.build.git.remote_source import Forge
from tests.support.build.webhooks import BEFORE, COMMIT, SECRET, call, headers

FORGES = list(Forge)
SIGNATURES = {
    Forge.GITHUB: ["x-hub-signature-256"],
    Forge.GITEA: ["x-hub-signature-256", "x-gitea-signature"],
    Forge.GITLAB: ["x-gitlab-token"],
}


def sent(data: bytes, secret: str = SECRET) -> Body:
    """The body as the service gets it, in pieces."""
    body = Body(secret)
    for at in range(0, len(data), 2**16):
        body.feed(data[at : at + 2**16])
    return body


@pytest.mark.parametrize("forge", FORGES)
def test_a_call_is_signed_with_the_secret_and_with_no_other(forge: Forge) -> None:
    good = call(forge)
    assert is_signed(forge, good.headers, sent(good.body))
    assert not is_signed(forge, call(forge, secret="another").headers, sent(good.body))
    for name in SIGNATURES[forge]:
        good.headers[name] = ""
    assert not is_signed(forge, good.headers, sent(good.body))
    for name in SIGNATURES[forge]:
        del good.headers[name]
    assert not is_signed(forge, good.headers, sent(good.body))


@pytest.mark.parametrize("forge", [Forge.GITHUB, Forge.GITEA])
def test_a_changed_body_is_not_signed(forge: Forge) -> None:
    good = call(forge)
    assert not is_signed(forge, good.headers, sent(good.body + b" "))


def test_the_example_of_github_holds() -> None:
    """From GitHub's "Validating webhook deliveries"."""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    secret = "It's a Secret to Everybody"
    assert is_signed(Forge.GITHUB, {"x-hub-signature-256": signature}, sent(b"Hello, World!", secret))


def test_gitea_may_sign_in_its_own_way_alone() -> None:
    good = call(Forge.GITEA)
    del good.headers["x-hub-signature-256"]
    assert is_signed(Forge.GITEA, good.headers, sent(good.body))
    assert not is_signed(Forge.GITHUB, good.headers, sent(good.body))


def test_what_is_no_ascii_is_no_signature() -> None:
    good = call(Forge.GITHUB)
    assert not is_signed(Forge.GITHUB, {"x-hub-signature-256": "sha256=ü"}, sent(good.body))
    assert not is_signed(Forge.GITLAB, {"x-gitlab-token": "ü"}, sent(good.body))


@pytest.mark.parametrize("forge", FORGES)
def test_a_push_names_branch_and_commit(forge: Forge) -> None:
    push = call(forge, ref="refs/heads/feature/a")
    event = "Push Hook" if forge is Forge.GITLAB else "push"
    assert read(forge, push.headers, sent(push.body)) == Notice(
        event, "feature/a", COMMIT, "4" * 40 if forge is Forge.GITLAB else BEFORE
    )
    assert delivery_of(forge, push.headers, sent(push.body)) == "d-1"


def test_github_may_send_a_form() -> None:
    body = urlencode({"payload": call(Forge.GITHUB).body.decode()}).encode()
    form = {**headers(Forge.GITHUB, body), "content-type": "application/x-www-form-urlencoded"}
    assert read(Forge.GITHUB, form, sent(body)).commit == COMMIT


def test_gitlabs_idempotency_key_goes_before_the_id_of_the_event() -> None:
    push = call(Forge.GITLAB)
    assert delivery_of(Forge.GITLAB, {**push.headers, "idempotency-key": "k"}, sent(push.body)) == "k"


def test_without_an_id_the_body_is_the_id() -> None:
    one, other = call(Forge.GITHUB, delivery=""), call(Forge.GITHUB, delivery="", message="other")
    ids = {delivery_of(Forge.GITHUB, each.headers, sent(each.body)) for each in (one, one, other)}
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
    assert read(forge, push.headers, sent(push.body)).ignored.startswith(reason)


def test_a_skipped_commit_below_the_head_skips_nothing() -> None:
    push = call(Forge.GITLAB)
    assert b"[skip ci]" in push.body
    assert read(Forge.GITLAB, push.headers, sent(push.body)).ignored == ""


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
    assert f"{event} is not a push of a branch" in read(forge, other.headers, sent(other.body)).ignored


def test_a_ping_is_heard() -> None:
    body = json.dumps({"zen": "Keep it logically awesome.", "hook_id": 1}).encode()
    assert "the webhook works" in read(Forge.GITHUB, headers(Forge.GITHUB, body, event="ping"), sent(body)).ignored


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
        read(Forge.GITHUB, headers(Forge.GITHUB, body), sent(body))


def test_a_commit_id_with_a_line_end_is_none() -> None:
    push = call(Forge.GITHUB, commit=COMMIT + "\n")
    with pytest.raises(BadPayload, match="40 hex digits"):
        read(Forge.GITHUB, push.headers, sent(push.body))


def test_a_strange_list_of_commits_is_no_message() -> None:
    push = call(Forge.GITHUB, commits=[1, None, {"id": COMMIT}], head_commit="x")
    assert read(Forge.GITHUB, push.headers, sent(push.body)).commit == COMMIT


@pytest.mark.parametrize("forge", FORGES)
@pytest.mark.parametrize("as_form", [False, True])
def test_of_a_push_of_many_commits_the_beginning_is_read(forge: Forge, as_form: bool) -> None:
    commits = [{"id": f"{number:040x}", "message": "m" * 3000} for number in range(2048)]
    push = call(forge, commits=commits)
    data = urlencode({"payload": push.body.decode()}).encode() if as_form else push.body
    kind = "application/x-www-form-urlencoded" if as_form else "application/json"
    many = {**headers(forge, data), "content-type": kind}
    body = sent(data)
    assert (len(body.kept), body.is_cut) == (KEPT_BYTES, True)
    assert is_signed(forge, many, body)
    assert (read(forge, many, body).branch, read(forge, many, body).commit) == ("release", COMMIT)


def test_a_large_call_about_something_else_is_ignored() -> None:
    data = b'{"action": "' + b"x" * KEPT_BYTES + b'"}'
    assert read(Forge.GITHUB, headers(Forge.GITHUB, data, event="issues"), sent(data)).ignored.startswith("issues")
