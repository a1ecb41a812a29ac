"""Encrypts secrets before they are stored, and decrypts them when they are used; the key is a file in the home."""

import base64
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.config import secret_file
from shared.security.auth import derived_secret


class VaultError(Exception):
    """A sealed value cannot be decrypted; the message says the remedy and holds nothing of the secret."""


class Vault:
    """Seals and opens texts. `key` is the file with the secrets from which the keys are derived, separated by white
    space: the first encrypts, each decrypts; a missing file is created. Values sealed for one `purpose` cannot be
    opened for another.

    Raises VaultError if the file is empty.
    """

    def __init__(self, key: Path, purpose: str) -> None:
        self._key = key
        kept = secret_file(key).split()
        if not kept:
            raise VaultError(f"{key} is empty; restore it, or remove it and set what was sealed again")
        self._fernet = fernet_of(kept, purpose)

    def seal(self, text: str) -> str:
        """Encrypts `text`; the result differs each time, and `open` gives `text` back."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Decrypts a sealed text. Raises VaultError if it was sealed with another key or for another purpose, or was
        changed since.
        """
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise VaultError(f"it was not sealed with {self._key}; restore that key, or set the value again") from None


def fernet_of(keys: Sequence[str], purpose: str) -> MultiFernet:
    """Returns a cipher whose first key encrypts and each of whose keys decrypts: AES-128-CBC with HMAC-SHA-256
    (Fernet's specification), under keys derived for `purpose` alone.
    """
    derived = [bytes.fromhex(derived_secret(key, purpose)) for key in keys]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(each)) for each in derived])
