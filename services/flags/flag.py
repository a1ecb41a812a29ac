"""Defines a flag: flagd's definition for one environment, and the plain Redis keys (mirrors) that hold its value."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from shared.errors import Invalid
from shared.models import Environment

KEY_PATTERN = r"^[A-Za-z0-9_.-]{1,128}$"
PATH_SEGMENTS = (".", "..")  # clients resolve them in a URL, so that it would address something else

Metadata = dict[str, bool | int | float | str]


def _is_free(key: str) -> str:
    if key == "events":
        raise ValueError("`events` is a key of the platform itself; choose another")
    if key in PATH_SEGMENTS:
        raise ValueError(f"`{key}` as a part of a URL means another place; choose another")
    return key


StoredKey = Annotated[str, StringConstraints(pattern=KEY_PATTERN)]
"""Key of a flag that may exist already: earlier versions accepted some keys that FlagKey refuses."""
FlagKey = Annotated[StoredKey, AfterValidator(_is_free)]


class Definition(BaseModel):
    """Holds a flag's definition in flagd's format (https://flagd.dev/reference/flag-definitions/). Unknown members are
    an error.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    state: Literal["ENABLED", "DISABLED"] = Field(
        description="A disabled flag has no value: clients use their own default, a boolean's Redis key holds 0."
    )
    variants: dict[str, JsonValue] = Field(min_length=1, description="Values by name, all of one type.")
    default_variant: str | None = Field(
        None, alias="defaultVariant", description="The variant that is served unless a rule chooses another."
    )
    targeting: dict[str, JsonValue] | None = Field(None, description="JsonLogic rule whose result is a variant's name.")
    metadata: Metadata = Field({}, description="`mirror`: name of a further Redis key that holds production's value.")

    @property
    def mirror(self) -> str | None:
        """Returns `metadata.mirror`, the name of a second Redis key that holds the flag's value; None if it is not
        set.
        """
        name = self.metadata.get("mirror")
        return None if name is None else str(name)


class Patch(BaseModel):
    """Request body of `PATCH /flags/{key}`. `variants` and `metadata` are merged with the flag's, and null removes an
    entry. Any other given field replaces the flag's.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    state: Literal["ENABLED", "DISABLED"] | None = None
    variants: dict[str, JsonValue] | None = None
    default_variant: str | None = Field(None, alias="defaultVariant")
    targeting: dict[str, JsonValue] | None = None
    metadata: dict[str, bool | int | float | str | None] | None = None


class Flag(BaseModel):
    """Holds one flag in one environment, as it is stored, with the time and author of its last change."""

    key: str
    environment: Environment
    definition: Definition
    updated_at: datetime
    updated_by: str = ""


class Change(BaseModel):
    """Records a change in a flag's history. `before` is null if the change created the flag, `after` if it deleted
    it.
    """

    key: str
    environment: Environment
    at: datetime
    actor: str
    before: Definition | None
    after: Definition | None

    @property
    def kind(self) -> Literal["made", "changed", "deleted"]:
        return "deleted" if self.after is None else "changed" if self.before else "made"


def rules_aside(targeting: Mapping[str, JsonValue] | None) -> dict[str, JsonValue] | None:
    """Returns the targeting rules that a person has disabled by switching the flag with `rules=aside`; None if there
    are none. Disabled rules are stored as `{"if": [false, rules]}`, which has no result, so that the default variant is
    served.
    """
    match targeting:
        case {"if": [False, dict(rules)], **rest} if not rest:
            return rules
    return None


def merged(definition: Definition, patch: Patch) -> Definition:
    """Returns the patched definition, not yet validated. Raises Invalid if the patch sets `state` to null."""
    given = {name: getattr(patch, name) for name in patch.model_fields_set}
    if given.get("state", "ENABLED") is None:
        raise Invalid("state", "null is no state; use ENABLED or DISABLED")
    for name in ("variants", "metadata"):
        if name in given:
            both = getattr(definition, name) | (given[name] or {})
            given[name] = {key: value for key, value in both.items() if value is not None}
    return definition.model_copy(update=given)


def kind_of(value: JsonValue) -> str | None:
    """Returns the kind of a value: `boolean`, `number`, `string` or `object` (also for a list); None for null."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, dict | list) else None


def plain_value(definition: Definition | None) -> str | None:
    """Returns the text that the flag's Redis keys hold: the default variant as `1`, `0`, a plain string or JSON.
    Targeting rules do not affect it. For a boolean flag that is disabled or has no default variant, it is `0`. Returns
    None if the keys must be deleted, because there is no flag or a flag of another kind has no value.
    """
    if definition is None:
        return None
    value: Any = None
    if definition.state == "ENABLED" and definition.default_variant is not None:
        value = definition.variants[definition.default_variant]
    if kind_of(next(iter(definition.variants.values()))) == "boolean":
        return "1" if value else "0"
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))


def mirror_key(environment: Environment, key: str) -> str:
    """Returns the Redis key that always holds the flag's value: `flag:<key>` or `flag:<environment>:<key>`."""
    return f"flag:{key}" if environment == Environment.PRODUCTION else f"flag:{environment}:{key}"


def mirrored(change: Change) -> dict[str, str | None]:
    """Returns Redis key → its new text (None deletes the key), for each key that the change writes. If the change is
    one of production, the key that `metadata.mirror` names is among them.
    """
    value = plain_value(change.after)
    keys = {mirror_key(change.environment, change.key): value}
    if change.environment != Environment.PRODUCTION:
        return keys
    if change.before and change.before.mirror:
        keys[change.before.mirror] = None
    if change.after and change.after.mirror:
        keys[change.after.mirror] = value
    return keys
