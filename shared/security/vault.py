"""Encrypts secrets before they are stored, and decrypts them. The key is in a file in the platform's home folder."""

import base64
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.config import secret_file
from shared.security.auth import derived_secret


class VaultError(Exception):
    """Reports that a text cannot be decrypted. The message names the remedy and contains nothing of the secret."""


class Vault:
    """Encrypts and decrypts texts. The file `key` holds one or more keys, separated by white space: the first one
    encrypts, all of them decrypt. If the file is missing, it is created. A text that was encrypted for one `purpose`
    cannot be decrypted for another. The constructor raises VaultError if the file is empty.
    """

    def __init__(self, key: Path, purpose: str) -> None:
        self._key = key
        kept = secret_file(key).split()
        if not kept:
            raise VaultError(f"{key} is empty; restore it, or remove it and set again what was encrypted with it")
        self._fernet = fernet_of(kept, purpose)

    def seal(self, text: str) -> str:
        """Returns `text` encrypted; the result differs at each call."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Returns the text from which `seal` made `sealed`. Raises VaultError if it was made with another key or
        purpose, or was changed.
        """
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            problem = f"it was not encrypted with {self._key}; restore that key, or set the value again"
            raise VaultError(problem) from None


def fernet_of(keys: Sequence[str], purpose: str) -> MultiFernet:
    """Returns a cipher for `purpose`, with keys derived from `keys`: the first one encrypts, all of them decrypt."""
    derived = [bytes.fromhex(derived_secret(key, purpose)) for key in keys]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(each)) for each in derived])
