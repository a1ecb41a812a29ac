"""Lists how a change alters the definition of a flag, for people to read."""

import json
from typing import Any, NamedTuple

from services.flags.flag import Change, Definition, rules_aside


class Difference(NamedTuple):
    """Describes a part of a flag's definition that a change alters, as JSON text. `before` is None for an added part,
    `after` for a removed one.
    """

    part: str
    before: str | None
    after: str | None


def differences(change: Change) -> list[Difference]:
    """Returns the parts that differ between the change's two definitions, in the order of a definition's fields. Each
    variant and each entry of the metadata is a part of its own.
    """
    before, after = _parts(change.before), _parts(change.after)
    names = [*before, *(name for name in after if name not in before)]
    pairs = [Difference(name, before.get(name), after.get(name)) for name in names]
    return [pair for pair in pairs if pair.before != pair.after]


def _parts(definition: Definition | None) -> dict[str, str]:
    if definition is None:
        return {}
    parts: dict[str, Any] = {"state": definition.state, "defaultVariant": definition.default_variant}
    parts |= {f"variants.{name}": value for name, value in definition.variants.items()}
    aside = rules_aside(definition.targeting)
    parts |= {"targeting": definition.targeting if aside is None else aside} if definition.targeting is not None else {}
    parts |= {"rules": "set aside"} if aside is not None else {}
    parts |= {f"metadata.{name}": value for name, value in definition.metadata.items()}
    return {name: json.dumps(value, ensure_ascii=False) for name, value in parts.items()}
