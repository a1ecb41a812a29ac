"""Encrypts, decrypts and masks the secrets of an app, and selects those of a step. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import Field, SecretStr

from services.build.logs.line_splitter import cleaned
from shared.errors import Invalid
from shared.manifest import Service, Step
from shared.models import Model, View
from shared.security.mask import Mask
from shared.security.secret_mask import mask_of
from shared.security.vault import Vault, VaultError

KIB = 2**10
VALUE_BYTES = 64 * KIB
ALL_BYTES = 256 * KIB  # Linux takes 128 KiB for one variable, and by default 2 MiB for all and the command
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_OWN_NAMES = re.compile(r"SLIPWAY_.*|CI.*|PATH|HOME|TMPDIR|PORT")
_CAN_BE_HELD = re.compile(r"[^\0\ud800-\udfff]*")


class SecretValue(Model):
    value: SecretStr = Field(description="Value, at most 64 KiB, without NUL. It is never shown.")


class SecretView(View):
    name: str
    set_at: datetime


class Secret(View):
    """Holds an app's secret as it is stored: encrypted in `sealed`, with the time at which it was set."""

    sealed: str = Field(repr=False)
    set_at: datetime
    """Time at which the value was set."""


@dataclass(frozen=True)
class Secrets:
    """Holds the decrypted secrets of one app, as of the start of a build's run."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    lost: frozenset[str] = frozenset()
    """Names of the secrets that cannot be decrypted."""
    mask: Mask = field(default_factory=Mask, repr=False)
    """Mask that hides all `values` in texts."""

    def of(self, step: Step | Service) -> dict[str, str]:
        """Returns name → value of the secrets that the step or test service lists. Raises KeyError if one of them is
        not set or cannot be decrypted.
        """
        return {name: self.values[name] for name in step.secrets}


def new_secret(name: str, value: str, others: Mapping[str, str], now: datetime, vault: Vault) -> Secret:
    """Returns the value as an encrypted secret, to be stored under `name`. `others` holds name → value of the app's
    present secrets. Raises Invalid, without the value in its message, if name, value or total size is not allowed.
    """
    if not _NAME.fullmatch(name):
        raise Invalid("name", "is not a name; use letters, digits and _, no digit first, at most 200 characters")
    if _OWN_NAMES.fullmatch(name):
        raise Invalid("name", f"{name} is set by the platform itself; choose another name")
    if not _CAN_BE_HELD.fullmatch(value):
        raise Invalid(
            "value", "holds NUL or half a surrogate pair, which an environment variable cannot hold; encode it"
        )
    if (length := len(value.encode())) > VALUE_BYTES:
        raise Invalid("value", f"has {length} bytes, the limit is {VALUE_BYTES}; keep it elsewhere")
    if (length := sum(len(text.encode()) for text in {**others, name: value}.values())) > ALL_BYTES:
        raise Invalid("value", f"with it the app's secrets have {length} bytes, the limit is {ALL_BYTES}; remove some")
    return Secret(sealed=vault.seal(value), set_at=now)


def opened(stored: Mapping[str, Secret], vault: Vault) -> Secrets:
    values, lost = {}, set()
    for name, secret in stored.items():
        try:
            values[name] = vault.open(secret.sealed)
        except VaultError:
            lost.add(name)
    return Secrets(values, frozenset(lost), mask_of(values.values(), cleaned))
