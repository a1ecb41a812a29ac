"""Encrypts secrets before they are stored, and decrypts them when they are used. The key is a file of the home."""

import base64
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.config import secret_file
from shared.security.auth import derived_secret


class VaultError(Exception):
    """What was sealed cannot be read; the message says the remedy and holds nothing of the secret."""


class Vault:
    """`key`: the file with the secrets from which the keys are made, separated by white space. The first one encrypts,
    each of them decrypts; it is made if it is missing. `purpose` keeps apart what is sealed for different things.

    Raises VaultError if the file is empty.
    """

    def __init__(self, key: Path, purpose: str) -> None:
        self._key = key
        kept = secret_file(key).split()
        if not kept:
            raise VaultError(f"{key} is empty; restore it, or remove it and set what was sealed again")
        self._fernet = fernet_of(kept, purpose)

    def seal(self, text: str) -> str:
        """Another answer each time; `open` gives `text` back."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Raises VaultError: sealed with another key, for another purpose, or changed since."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise VaultError(f"it was not sealed with {self._key}; restore that key, or set the value again") from None


def fernet_of(keys: Sequence[str], purpose: str) -> MultiFernet:
    """The first key encrypts, each decrypts. AES-128-CBC with HMAC-SHA-256 (Fernet's specification), under keys derived
    for that purpose alone.
    """
    derived = [bytes.fromhex(derived_secret(key, purpose)) for key in keys]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(each)) for each in derived])
