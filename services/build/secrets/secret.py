"""Encrypts, decrypts and masks the secrets of an app, and selects those of a step. Pure."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, quote_plus

from pydantic import Field, SecretStr

from services.build.logs.line_splitter import cleaned
from services.build.logs.mask import SHORTEST, Mask
from shared.errors import Invalid
from shared.manifest import Service, Step
from shared.models import Model, View
from shared.security.vault import Vault, VaultError

KIB = 2**10
VALUE_BYTES = 64 * KIB
ALL_BYTES = 256 * KIB  # Linux takes 128 KiB for one variable, and by default 2 MiB for all and the command
WRAPPED = (64, 76)  # characters a line of base64, as OpenSSL and coreutils write it
SHORTEST_LINE = 8  # of several: shorter ones (`{`, `fi`) would be hidden everywhere
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_OWN_NAMES = re.compile(r"SLIPWAY_.*|CI.*|PATH|HOME|TMPDIR|PORT")
_CAN_BE_HELD = re.compile(r"[^\0\ud800-\udfff]*")


class SecretValue(Model):
    value: SecretStr = Field(description="Value, at most 64 KiB, without NUL. It is never shown.")


class SecretView(View):
    name: str
    set_at: datetime


class Secret(View):
    """Holds an app's secret as it is stored: encrypted in `sealed`, and with the time at which it was set."""

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
    """Masks all `values` in texts."""

    def of(self, step: Step | Service) -> dict[str, str]:
        """Returns name → value of the secrets that the step or service lists."""
        return {name: self.values[name] for name in step.secrets}


def new_secret(name: str, value: str, others: Mapping[str, str], now: datetime, vault: Vault) -> Secret:
    """Encrypts a value to be stored under `name`; `others` are the app's present secrets by name. Raises Invalid,
    without the value in its message, if name, value or the total size is not allowed.
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
    return Secrets(values, frozenset(lost), mask_of(values.values()))


def mask_of(values: Iterable[str]) -> Mask:
    """Returns the mask that hides the values in all their forms."""
    both = [forms(value) for value in values]
    return Mask((text for found, _ in both for text in found), (text for _, encoded in both for text in encoded))


def forms(value: str) -> tuple[set[str], set[str]]:
    """Returns the texts to mask for a secret value, each of at least 4 characters. The first are its lines, of several
    those of at least 8 characters; the mask finds them also if characters are escaped. The others are searched as they
    are: the value in base64, also wrapped into lines, and, of a value with several lines, URL-encoded and as in JSON.
    """
    lines = [line for part in re.split(r"[\r\n]+", value) if (line := part.strip())]
    shortest = SHORTEST if len(lines) == 1 else SHORTEST_LINE
    found = {form for line in lines for form in (line, cleaned(line), " ".join(line.split())) if len(form) >= shortest}
    encoded: set[str] = set()
    if len(whole := value.strip()) >= SHORTEST:
        encoded |= {quote(whole, safe=""), quote(whole), quote_plus(whole), *_base64(whole.encode())}
        encoded |= {json.dumps(whole)[1:-1], json.dumps(whole, ensure_ascii=False)[1:-1]}
    return found, encoded


def _base64(data: bytes) -> Iterator[str]:
    """Yields the data in base64, and those parts of it that also appear if the data stands within a longer text that is
    encoded.
    """
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(data).decode()
        for before in range(3):
            first, end = -(-8 * before // 6), 8 * (before + len(data)) // 6
            core = encode(bytes(before) + data).decode()[first:end]
            if len(core) >= SHORTEST_LINE:
                yield core
        whole = encode(data).decode()
        for width in WRAPPED if len(whole) > min(WRAPPED) else ():
            lines = [whole[at : at + width] for at in range(0, len(whole), width)]
            yield from (line for line in lines if len(line) >= SHORTEST_LINE)
