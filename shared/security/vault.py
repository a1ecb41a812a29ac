"""Encrypts secrets before they are stored, and decrypts them; the key is a file in the home."""

import base64
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.config import secret_file
from shared.security.auth import derived_secret


class VaultError(Exception):
    """Raised if a text cannot be decrypted. The message says the remedy and contains nothing of the secret."""


class Vault:
    """Encrypts and decrypts texts. The file `key` holds secrets, separated by white space: the first encrypts, each
    decrypts; the file is created if it is missing. A text encrypted for one `purpose` cannot be decrypted for another.

    Raises VaultError if the file is empty.
    """

    def __init__(self, key: Path, purpose: str) -> None:
        self._key = key
        kept = secret_file(key).split()
        if not kept:
            raise VaultError(f"{key} is empty; restore it, or remove it and set what was sealed again")
        self._fernet = fernet_of(kept, purpose)

    def seal(self, text: str) -> str:
        """Returns `text` encrypted, with another result each time."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Decrypts a result of `seal`. Raises VaultError if it was made with another key or purpose, or was changed."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise VaultError(f"it was not sealed with {self._key}; restore that key, or set the value again") from None


def fernet_of(keys: Sequence[str], purpose: str) -> MultiFernet:
    """Returns a cipher with keys derived from `keys` for `purpose`: the first encrypts, each decrypts."""
    derived = [bytes.fromhex(derived_secret(key, purpose)) for key in keys]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(each)) for each in derived])
