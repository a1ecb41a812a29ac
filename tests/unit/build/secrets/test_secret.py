"""Secrets of an app: what may be one, which step is given which, and what is hidden of a value."""

import base64
import json
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from services.build.logs.line_splitter import cleaned
from services.build.secrets.secret import ALL_BYTES, VALUE_BYTES, Secrets, new_secret, opened
from shared.errors import Invalid
from shared.manifest import Step
from shared.security.secret_mask import mask_of
from shared.security.vault import Vault
from tests.support.build.builds import AT

KEY = "-----BEGIN KEY-----\nMIIBOgIBAAJBAKj34GkxFhD9\nOoPt\n\n-----END KEY-----\n"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "key", "build:secrets")


def hidden(value: str, text: str) -> str:
    return mask_of([value], cleaned)(text)


@pytest.mark.parametrize("name", ["TOKEN", "_a1", "Path", "PORTS", "slipway_x", "a" * 200])
def test_names_are_those_of_variables(vault: Vault, name: str) -> None:
    secret = new_secret(name, "value", {}, AT, vault)
    assert (vault.open(secret.sealed), secret.set_at) == ("value", AT)
    assert "value" not in repr(secret) and "value" not in secret.model_dump_json()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        *((name, "use letters, digits and _") for name in ("", "1A", "A-B", "A B", "A\n", "É", "a" * 201)),
        *((name, "choose another name") for name in ("PATH", "HOME", "TMPDIR", "PORT", "CI", "CI_TOKEN", "SLIPWAY_X")),
    ],
)
def test_other_names_are_refused(vault: Vault, name: str, remedy: str) -> None:
    with pytest.raises(Invalid, match=f"^name: .*{remedy}"):
        new_secret(name, "value", {}, AT, vault)


@pytest.mark.parametrize("value", ["s3cret\0", "s3cret\ud800", "s3cret" + "é" * (VALUE_BYTES // 2)])
def test_a_value_that_no_step_can_be_given_is_refused_and_not_repeated(vault: Vault, value: str) -> None:
    with pytest.raises(Invalid, match=r"^value: ") as refused:
        new_secret("TOKEN", value, {}, AT, vault)
    assert "s3cret" not in str(refused.value.document())


def test_all_values_together_have_a_limit(vault: Vault) -> None:
    full = {f"S{number}": "x" * VALUE_BYTES for number in range(ALL_BYTES // VALUE_BYTES)}
    assert new_secret("S0", "y" * VALUE_BYTES, full, AT, vault)
    with pytest.raises(Invalid, match=r"^value: .*remove some"):
        new_secret("ONE_MORE", "y", full, AT, vault)


def test_a_step_gets_what_it_names_and_nothing_is_shown(vault: Vault, tmp_path: Path) -> None:
    other = Vault(tmp_path / "other", "build:secrets")
    stored = {"A": new_secret("A", "value of a", {}, AT, vault), "B": new_secret("B", "value of b", {}, AT, other)}
    secrets = opened(stored, vault)
    free, named = (Step(name="push", commands=["true"], secrets=names) for names in ([], ["A"]))
    assert (secrets.of(free), secrets.of(named)) == ({}, {"A": "value of a"})
    assert secrets.lost == {"B"}
    assert "value of a" not in repr(secrets)
    assert secrets.mask("value of a, value of b") == "***, value of b"
    assert Secrets().mask("anything") == "anything"


@pytest.mark.parametrize("width", [64, 76])
def test_base64_that_a_tool_wraps_is_hidden_line_by_line(width: int) -> None:
    value = "a-very-long-value/" * 12
    encoded = base64.b64encode(value.encode()).decode()
    lines = [encoded[at : at + width] for at in range(0, len(encoded), width)]
    assert [hidden(value, line) for line in lines] == ["***"] * len(lines)


@pytest.mark.parametrize("value", ["", "abc", "abc\n", "ab\ncd\nef", "  \n  ", "é12"])
def test_short_words_are_never_hidden(value: str) -> None:
    assert hidden(value, "abc ab cd ef   é12") == "abc ab cd ef   é12"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("abcd", "abcd"),
        (" abcd\n", "abcd"),
        ("ab \t cd", "ab cd"),
        ("tab\there\x01and there", "tab\there\ufffdand there"),
        ("pass/word?&%", "pass%2Fword%3F%26%25"),
        ("pass/word?&%", "pass/word%3F%26%25"),
        ("pass/word two", "pass%2Fword%20two"),
        ("pass word!", quote_plus("pass word!")),
        ('say "hello"', json.dumps('say "hello"')[1:-1]),
        ("käse und brot", json.dumps("käse und brot")[1:-1]),
        (KEY, json.dumps(KEY.strip())[1:-1]),
        ("s3cret-??>>", base64.b64encode(b"s3cret-??>>").decode()),
        ("s3cret-??>>", base64.urlsafe_b64encode(b"s3cret-??>>").decode()),
        (KEY.strip(), base64.b64encode(KEY.strip().encode()).decode()),
    ],
)
def test_a_value_is_hidden_in_each_of_its_forms(value: str, text: str) -> None:
    assert hidden(value, f"<{text}>") == "<***>"


def test_of_several_lines_each_long_one_is_hidden() -> None:
    printed = KEY.splitlines()
    assert [hidden(KEY, line) for line in printed] == ["***", "***", "OoPt", "", "***"]
    assert hidden("password\r\nuser1234", "password user1234") == "*** ***"


@pytest.mark.parametrize("user", ["a", "ab", "abc", "abcd"])
@pytest.mark.parametrize("behind", ["", ":1", ":12", ":123"])
def test_a_value_is_hidden_within_longer_base64(user: str, behind: str) -> None:
    """Basic authentication. What is left at both ends depends on the neighbours, and tells 10 bits at most."""
    value = "hunter2-and-more"
    printed = base64.b64encode(f"{user}:{value}{behind}".encode()).decode()
    masked = hidden(value, printed)
    assert "***" in masked
    left = masked.replace("***", "")
    assert len(printed) - len(left) >= len(value) * 8 // 6 - 2
