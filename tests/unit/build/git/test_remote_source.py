"""An app's source: which URLs git may be given, and who keeps which secret."""

from pathlib import Path
from typing import Any

import pytest

from services.build.git.remote_source import Forge, Source, SourceSettings, changed_source, check_url, place
from shared.errors import Invalid
from shared.security.outgoing import AddressGuard
from shared.security.vault import Vault

URL = "https://forge.example/octo/notes.git"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "key", "trial")


def settings(**fields: Any) -> SourceSettings:
    return SourceSettings.model_validate({"forge": "gitea", "url": URL, **fields})


def changed(vault: Vault, before: Source | None = None, **fields: Any) -> Source:
    return changed_source(settings(**fields), before, vault, guard=AddressGuard())


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "https://forge.example:8443/a/b/c",
        "ssh://git@forge.example:2222/octo/notes.git",
        "ssh://forge.example/octo/notes",
        "git@forge.example:octo/notes.git",
    ],
)
def test_what_git_may_be_given(url: str) -> None:
    check_url(url, guard=AddressGuard())


@pytest.mark.parametrize(
    "url",
    [
        URL + "\n",
        "git@forge.example:octo/notes.git\n",
        "file:///etc",
        "/srv/notes.git",
        "../notes.git",
        "ext::sh -c touch% x",
        "ext::sh",
        "fd::17",
        "http://forge.example/a/b",
        "http://127.0.0.1/a/b",
        "git://forge.example/a/b",
        "ftp://forge.example/a/b",
        "https://ext::sh@forge.example/a",
        "--upload-pack=touch x",
        "-oProxyCommand=x@forge.example:a",
        "git@-oProxyCommand=x:a",
        "git@forge.example:-a",
        "git@forge.example:",
        "ssh://-oProxyCommand=x/a",
        "ssh://-oProxyCommand=x@forge.example/a",
        "ssh://git:password@forge.example/a",
        "https://octo:password@forge.example/a",
        "https://forge.example",
        "https:///a",
        "https://forge.example/a?b",
        "https://forge.example/a#b",
        "https://forge.example/a b",
        "https://forge.example/a\nb",
        "https://forge.example/a\n",
        "git@forge.example:a\n",
        "https://forge.example:x/a",
        "https://[::1/a",
        "https://förge.example/a",
        "https://forge.example/" + "a" * 500,
        "",
    ],
)
def test_what_git_is_never_given(url: str) -> None:
    with pytest.raises(Invalid, match=r"^source\.url: "):
        check_url(url, guard=AddressGuard())


def test_http_is_for_tests_on_a_loopback_address() -> None:
    check_url("http://127.0.0.1:3000/git/notes.git", guard=AddressGuard("127.0.0.0/8"))
    for url in ("http://forge.example/a", "http://10.0.0.1/a", "http://localhost.example/a"):
        with pytest.raises(Invalid):
            check_url(url, guard=AddressGuard("127.0.0.0/8"))


def test_secrets_are_sealed_and_only_told_to_be_set(vault: Vault) -> None:
    source = changed(vault, token="hello-token", webhook_secret="hello-secret", username="octo")
    assert vault.open(source.token) == "hello-token"
    assert "hello" not in source.model_dump_json() + repr(source) + repr(settings(token="hello-token"))
    shown = source.view().model_dump(mode="json")
    assert shown == {
        "forge": "gitea",
        "url": URL,
        "username": "octo",
        "api_url": None,
        "token_set": True,
        "webhook_secret_set": True,
    }


def test_a_secret_that_is_left_out_stays_and_null_removes_it(vault: Vault) -> None:
    before = changed(vault, token="a", webhook_secret="b")
    after = changed(vault, before, url="https://forge.example/octo/other.git", webhook_secret=None)
    assert (vault.open(after.token), after.webhook_secret) == ("a", "")


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "https://evil.example/octo/notes.git"},
        {"url": "https://forge.example:444/octo/notes.git"},
        {"api_url": "https://evil.example"},
    ],
)
def test_a_token_goes_to_no_other_host_than_it_was_given_for(vault: Vault, fields: dict[str, str]) -> None:
    before = changed(vault, token="a")
    with pytest.raises(Invalid, match=r"source\.token: was given for another host"):
        changed(vault, before, **fields)
    assert vault.open(changed(vault, before, token="b", **fields).token) == "b"


@pytest.mark.parametrize("value", ["\nb", " ", "ä", "\x00"])
def test_a_secret_that_was_copied_badly_is_refused_without_being_told(vault: Vault, value: str) -> None:
    with pytest.raises(Invalid, match=r"source\.token: .*copy it anew") as refused:
        changed(vault, token=f"hello{value}")
    assert "hello" not in str(refused.value)


@pytest.mark.parametrize("api_url", ["http://forge.example", "https://a:b@forge.example", "forge.example"])
def test_the_api_is_reached_over_https(vault: Vault, api_url: str) -> None:
    with pytest.raises(Invalid, match=r"^source\.api_url: "):
        changed(vault, api_url=api_url)


@pytest.mark.parametrize(
    ("url", "root", "path"),
    [
        (URL, "https://forge.example", "octo/notes"),
        ("https://forge.example:8443/a/b/c", "https://forge.example:8443", "a/b/c"),
        ("ssh://git@forge.example:2222/octo/notes.git", "https://forge.example", "octo/notes"),
        ("git@forge.example:octo/notes.git", "https://forge.example", "octo/notes"),
    ],
)
def test_a_clone_url_tells_where_the_repository_is(url: str, root: str, path: str) -> None:
    where = place(Source(forge=Forge.GITEA, url=url))
    assert (where.root, where.path) == (root, path)
