"""A flag: flagd's definition for one environment, its check on write, and the plain Redis keys that mirror it."""

import json
import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from openfeature.contrib.tools.flagd.core.targeting.targeting import OPERATORS
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from shared.errors import Invalid
from shared.models import Environment

KEY_PATTERN = r"^[A-Za-z0-9_.-]{1,128}$"
MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
# JsonLogic's own operators, which the evaluator handles apart from its table; `log` would print to this service's log.
KNOWN_OPERATORS = (OPERATORS.keys() | {"if", "?:", "and", "or", "filter", "reduce", "map", "all", "some", "none"}) - {
    "log"
}

Metadata = dict[str, bool | int | float | str]


def _is_free(key: str) -> str:
    if key == "events":
        raise ValueError("`events` is a key of the platform itself; choose another")
    return key


FlagKey = Annotated[str, StringConstraints(pattern=KEY_PATTERN), AfterValidator(_is_free)]


class Definition(BaseModel):
    """flagd's flag definition, https://flagd.dev/reference/flag-definitions/; unknown members are refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    state: Literal["ENABLED", "DISABLED"] = Field(
        description="A disabled flag has no value: a client takes its own default, the mirror of a boolean is 0."
    )
    variants: dict[str, JsonValue] = Field(min_length=1, description="Name → value; all of one type.")
    default_variant: str | None = Field(
        None, alias="defaultVariant", description="Served where no rule says otherwise."
    )
    targeting: dict[str, JsonValue] | None = Field(None, description="JsonLogic; its result is a variant's name.")
    metadata: Metadata = Field({}, description="`mirror`: a plain Redis key that has production's value too.")

    @property
    def mirror(self) -> str | None:
        """The plain Redis key that the flag's owner asked for."""
        name = self.metadata.get("mirror")
        return None if name is None else str(name)


class Patch(BaseModel):
    """What changes. `variants` and `metadata` are merged, null removes an entry; `targeting` is replaced as a whole."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    state: Literal["ENABLED", "DISABLED"] | None = None
    variants: dict[str, JsonValue] | None = None
    default_variant: str | None = Field(None, alias="defaultVariant")
    targeting: dict[str, JsonValue] | None = None
    metadata: dict[str, bool | int | float | str | None] | None = None


class Flag(BaseModel):
    """One flag in one environment, as it is stored."""

    key: str
    environment: Environment
    definition: Definition
    updated_at: datetime


class Change(BaseModel):
    """One entry of a flag's history; `before` is null if it was made, `after` if it was deleted."""

    key: str
    environment: Environment
    at: datetime
    actor: str
    before: Definition | None
    after: Definition | None


def merged(definition: Definition, patch: Patch) -> Definition:
    """The definition after the patch, not yet checked."""
    given = {name: getattr(patch, name) for name in patch.model_fields_set}
    if given.get("state", "ENABLED") is None:
        raise Invalid("state", "null is no state; use ENABLED or DISABLED")
    for name in ("variants", "metadata"):
        if name in given:
            both = getattr(definition, name) | (given[name] or {})
            given[name] = {key: value for key, value in both.items() if value is not None}
    return definition.model_copy(update=given)


def check(definition: Definition) -> None:
    """Raises Invalid with the path to the first fault: one malformed flag would stop the evaluation of all."""
    variants = definition.variants
    if not variants:
        raise Invalid("variants", "the last variant cannot go; a flag needs at least one")
    kinds = {name: _kind(value) for name, value in variants.items()}
    for name, kind in kinds.items():
        if kind is None or not name:
            raise Invalid(f"variants.{name}", "give each variant a name and a boolean, string, number, object or list")
        if kind != next(iter(kinds.values())):
            raise Invalid(f"variants.{name}", f"all variants must be of one type; this is {kind}, others are not")
    if definition.default_variant is not None and definition.default_variant not in variants:
        raise Invalid(
            "defaultVariant", f"{definition.default_variant!r} is no variant; use one of {', '.join(variants)}"
        )
    for path, fault in _faults(definition.targeting or {}, "targeting", 0):
        raise Invalid(path, fault)
    _check_metadata(definition.metadata)
    _check_size(definition)


def _check_metadata(metadata: Metadata) -> None:
    if "" in metadata:
        raise Invalid("metadata", "an entry has no name; give it one")
    mirror = metadata.get("mirror", "unused")
    # The name becomes a pattern of the app user's rights in Redis, so nothing that such a pattern reads may be in it.
    if not isinstance(mirror, str) or not re.fullmatch(KEY_PATTERN, mirror) or mirror == "events":
        raise Invalid("metadata.mirror", "use letters, digits, `_`, `.` and `-`; `:` and `events` are the platform's")


def _check_size(definition: Definition) -> None:
    try:
        size = len(json.dumps(definition.model_dump(), allow_nan=False).encode())
    except ValueError:
        raise Invalid("variants", "NaN and Infinity are no JSON; use finite numbers") from None
    if size > MAX_BYTES:
        raise Invalid("variants", f"the flag has {size} bytes, the limit is {MAX_BYTES}; move large values to the app")


def _kind(value: JsonValue) -> str | None:
    """JSON's name of the value's type, None for null. (bool is an int to Python.)"""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, dict | list) else None


def _faults(rule: JsonValue, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Path and fault of each part that the evaluator would choke on, or silently take for a value."""
    if depth > MAX_DEPTH:
        yield path, f"the rule is nested deeper than {MAX_DEPTH}; split it"
    elif isinstance(rule, list):
        for index, part in enumerate(rule):
            yield from _faults(part, f"{path}.{index}", depth + 1)
    elif isinstance(rule, dict):
        if depth == 0 and len(rule) > 1:
            yield path, "a rule is an object with exactly one operator"
        for operator, arguments in rule.items():
            if len(rule) == 1 and operator not in KNOWN_OPERATORS:
                yield f"{path}.{operator}", "no operator of JsonLogic or flagd; check the spelling"
            yield from _faults(arguments, f"{path}.{operator}", depth + 1)
    elif isinstance(rule, float) and not math.isfinite(rule):
        yield path, "NaN and Infinity are no JSON; use a finite number"


def plain_value(definition: Definition | None) -> str | None:
    """What a mirror holds, rules aside: `1` or `0`, a string as it is, else JSON. None: there is no key."""
    if definition is None:
        return None
    value: Any = None
    if definition.state == "ENABLED" and definition.default_variant is not None:
        value = definition.variants[definition.default_variant]
    if _kind(next(iter(definition.variants.values()))) == "boolean":
        return "1" if value else "0"
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))


def mirrored(change: Change) -> dict[str, str | None]:
    """Redis key → what it must hold after the change; None: the key goes. `metadata.mirror` is production's alone."""
    value = plain_value(change.after)
    if change.environment != Environment.PRODUCTION:
        return {f"flag:{change.environment}:{change.key}": value}
    keys: dict[str, str | None] = {f"flag:{change.key}": value}
    if change.before and change.before.mirror:
        keys[change.before.mirror] = None
    if change.after and change.after.mirror:
        keys[change.after.mirror] = value
    return keys
