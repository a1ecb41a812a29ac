"""Validates definitions: finds every fault, with its path and a remedy."""

import json
import math
import re
from collections.abc import Iterator

from openfeature.contrib.tools.flagd.core.targeting.targeting import OPERATORS
from pydantic import JsonValue
from pydantic_core import PydanticSerializationError

from services.flags.flag import KEY_PATTERN, Definition, Metadata, kind_of, rules_aside
from shared.errors import Invalid

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
# JsonLogic's own operators, which the evaluator handles apart from its table; `log` would print to this service's log.
KNOWN_OPERATORS = (OPERATORS.keys() | {"if", "?:", "and", "or", "filter", "reduce", "map", "all", "some", "none"}) - {
    "log"
}


def check(definition: Definition) -> None:
    """Raises Invalid with every fault of the definition and its path; returns if there is none. One malformed flag
    would stop flagd's evaluation of all flags.
    """
    if found := list(faults(definition)):
        invalid = Invalid(*found[0])
        invalid.extra["errors"] = [{"field": path, "detail": fault} for path, fault in found]
        raise invalid


def faults(definition: Definition) -> Iterator[tuple[str, str]]:
    """Yields (path, fault with remedy) for each fault of the definition. The size is checked only if nothing else is
    wrong.
    """
    found = [*_faults_of_variants(definition), *_faults_of_rules(definition), *_faults_of_metadata(definition.metadata)]
    yield from found or _faults_of_size(definition)


def _faults_of_variants(definition: Definition) -> Iterator[tuple[str, str]]:
    variants = definition.variants
    if not variants:
        yield "variants", "the last variant cannot go; a flag needs at least one"
        return
    kinds = {name: kind_of(value) for name, value in variants.items()}
    first = next(iter(kinds.values()))
    for name, kind in kinds.items():
        if kind is None or not name:
            yield f"variants.{name}", "give each variant a name and a boolean, string, number, object or list"
        elif kind != first:
            yield f"variants.{name}", f"all variants must be of one type; this is {kind}, others are not"
    if definition.default_variant is not None and definition.default_variant not in variants:
        yield "defaultVariant", f"{definition.default_variant!r} is no variant; use one of {', '.join(variants)}"


def _faults_of_rules(definition: Definition) -> Iterator[tuple[str, str]]:
    aside = rules_aside(definition.targeting)
    if aside is None:
        yield from _faults(definition.targeting or {}, "targeting", 0)
    else:  # setting them aside must not make them too deep
        yield from _faults(aside, "targeting.if.1", 0)


def _faults_of_metadata(metadata: Metadata) -> Iterator[tuple[str, str]]:
    if "" in metadata:
        yield "metadata", "an entry has no name; give it one"
    mirror = metadata.get("mirror", "unused")
    # The name becomes a pattern of the app user's rights in Redis, so nothing that such a pattern reads may be in it.
    if not isinstance(mirror, str) or not re.fullmatch(KEY_PATTERN, mirror) or mirror == "events":
        yield "metadata.mirror", "use letters, digits, `_`, `.` and `-`; `:` and `events` are the platform's"


def _faults_of_size(definition: Definition) -> Iterator[tuple[str, str]]:
    try:
        definition.model_dump_json()
        size = len(json.dumps(definition.model_dump(), allow_nan=False).encode())
    except PydanticSerializationError:
        yield "variants", "a string holds half of a surrogate pair, which is no Unicode; leave it out"
        return
    except ValueError:
        yield "variants", "NaN and Infinity are no JSON; use finite numbers"
        return
    if size > MAX_BYTES:
        yield "variants", f"the flag has {size} bytes, the limit is {MAX_BYTES}; move large values to the app"


def _faults(rule: JsonValue, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yields (path, fault with remedy) for each part of the rule on which the evaluator would fail, or which it would
    silently treat as a constant; for instance an unknown operator.
    """
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
