"""Keeps the platform's account at the certificate authority in `<home>/envoy/acme.json`."""

import json
from collections.abc import Callable
from pathlib import Path

from services.proxy.certificates.acme_client import AcmeAccount, AcmeClient, AcmeFailure, new_key
from services.proxy.envoy.files import replace
from shared.security.vault import Vault, VaultError

FILE = "acme.json"


class AccountFile:
    """Returns the account at the authority with this directory, and registers it if there is none. The file keeps the
    key (encrypted) before it is registered, so that an interrupted call makes no second account.
    """

    def __init__(self, folder: Path, vault: Callable[[], Vault], directory: str, email: str) -> None:
        self._path = folder / FILE
        self._vault = vault
        self._directory = directory
        self._email = email

    def account(self, client: AcmeClient) -> AcmeAccount:
        """Raises AcmeFailure."""
        account = self._read()
        if account is None:
            account = AcmeAccount(new_key(), "")
            self._write(account)
        if not account.uri:
            account = client.register(account.key, self._email)
            self._write(account)
        return account

    def forget(self) -> None:
        """Lets the next call of `account` register the key again."""
        if account := self._read():
            self._write(account._replace(uri=""))

    def _read(self) -> AcmeAccount | None:
        try:
            kept = json.loads(self._path.read_bytes())
            if kept["directory"] != self._directory:
                return None
            return AcmeAccount(self._vault().open(kept["sealed_key"]), kept["uri"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, VaultError) as error:
            raise AcmeFailure(f"{self._path} cannot be read ({error}); restore or remove it") from error

    def _write(self, account: AcmeAccount) -> None:
        sealed = self._vault().seal(account.key)
        kept = {"directory": self._directory, "uri": account.uri, "sealed_key": sealed}
        replace(self._path, json.dumps(kept, indent=1) + "\n")
