"""Encrypts overrides (settings of an environment that replace those of the manifest) for the store: the value of each
variable and secret separately.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence

from cryptography.fernet import InvalidToken
from pydantic import BaseModel, ConfigDict

from services.deployer.releases.environment import NOTHING, Lifecycle, Locked, Override, SecretOverride
from shared.security.auth import derived_secret
from shared.security.vault import fernet_of


class _Stored(BaseModel):
    """Holds an override in the form in which it is stored as JSON. A variable in plain text comes from a version
    without encryption.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    replicas: int | None = None
    memory: int | None = None
    variables: dict[str, Locked | str] = {}
    secrets: dict[str, Locked] = {}
    configuration: str = NOTHING
    lifecycle: Lifecycle = Lifecycle()


class OverrideEncryption:
    """Encrypts the values in overrides with the first of `keys`, and decrypts them with any of the keys. Raises
    ValueError if there are no keys.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("<home>/key is empty; restore it, or remove it and set variables and secrets again")
        self._fernet = fernet_of(keys, "deployer:values")
        self._digest_key = derived_secret(keys[0], "deployer:configuration").encode()

    def seal(self, override: Override) -> str:
        """Returns the override as JSON with encrypted values. Values that none of the keys could decrypt are stored as
        they were.
        """
        variables = {name: Locked(sealed=self._encrypt(value)) for name, value in override.variables.items()}
        secrets = {
            name: Locked(sealed=self._encrypt(secret.value.get_secret_value()), set_at=secret.set_at)
            for name, secret in override.secrets.items()
        }
        for name, locked in override.locked.items():
            (variables if locked.set_at is None else secrets)[name] = locked
        return _Stored(
            replicas=override.replicas,
            memory=override.memory,
            variables=dict(variables),
            secrets=secrets,
            lifecycle=override.lifecycle,
            configuration=override.configuration if override.locked else self._configuration(override.all_variables()),
        ).model_dump_json()

    def open(self, text: str) -> Override:
        """Returns the override from JSON that `seal` made, with its digest `configuration` computed anew. If a value
        cannot be decrypted, the stored digest stays, so that no instance is replaced. Raises pydantic.ValidationError
        for any other text.
        """
        stored = _Stored.model_validate_json(text)
        override = Override(
            replicas=stored.replicas,
            memory=stored.memory,
            configuration=stored.configuration,
            lifecycle=stored.lifecycle,
        )
        for name, kept in stored.variables.items():
            if isinstance(kept, str):
                override.variables[name] = kept
            elif (value := self._decrypt(kept.sealed)) is None:
                override.locked[name] = kept
            else:
                override.variables[name] = value
        for name, locked in stored.secrets.items():
            if (value := self._decrypt(locked.sealed)) is None:
                override.locked[name] = locked
            else:
                override.secrets[name] = SecretOverride.model_validate({"value": value, "set_at": locked.set_at})
        if not override.locked:
            override.configuration = self._configuration(override.all_variables())
        return override

    def _configuration(self, variables: Mapping[str, str]) -> str:
        """Returns a digest (16 hex digits) of variables and secrets, which is stored unencrypted. It depends on a key,
        so that guessed values cannot be tested against it.
        """
        if not variables:
            return NOTHING
        text = json.dumps(variables, sort_keys=True).encode()
        return hmac.new(self._digest_key, text, hashlib.sha256).hexdigest()[:16]

    def _encrypt(self, value: str) -> str:
        return self._fernet.encrypt(value.encode()).decode()

    def _decrypt(self, sealed: str) -> str | None:
        """Returns the plain text; None if `sealed` was encrypted with another key or was changed."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            return None
