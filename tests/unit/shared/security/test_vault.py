"""A sealed text can be opened with the same key and purpose, and with nothing else."""

from pathlib import Path

import pytest

from shared.security.vault import Vault, VaultError


def test_what_is_sealed_is_opened_and_tells_nothing(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "key", "trial")
    sealed = vault.seal("hello-secret")
    assert vault.open(sealed) == "hello-secret"
    assert "hello" not in sealed and sealed != vault.seal("hello-secret")
    assert Vault(tmp_path / "key", "trial").open(sealed) == "hello-secret"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("other", ["other-key", "other-purpose", "changed"])
def test_with_anything_else_the_remedy_is_said(tmp_path: Path, other: str) -> None:
    sealed = Vault(tmp_path / "key", "trial").seal("hello-secret")
    key, purpose = tmp_path / other if other == "other-key" else tmp_path / "key", "trial"
    if other == "other-purpose":
        purpose = "another"
    if other == "changed":
        sealed = sealed[:-8] + "AAAAAAA="
    with pytest.raises(VaultError, match="restore that key, or set the value again"):
        Vault(key, purpose).open(sealed)


def test_a_new_key_before_the_old_one_encrypts_from_now_on(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old\n")
    sealed = Vault(tmp_path / "key", "trial").seal("hello-secret")
    (tmp_path / "key").write_text("new\nold\n")
    both = Vault(tmp_path / "key", "trial")
    resealed = both.seal(both.open(sealed))
    (tmp_path / "key").write_text("new\n")
    assert Vault(tmp_path / "key", "trial").open(resealed) == "hello-secret"


def test_an_empty_key_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("")
    with pytest.raises(VaultError, match="is empty"):
        Vault(tmp_path / "key", "trial")
