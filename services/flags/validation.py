"""Validates definitions of flags: finds every fault, with its path and a remedy."""

import json
import re
from collections.abc import Iterator

from pydantic_core import PydanticSerializationError

from services.flags.flag import KEY_PATTERN, PATH_SEGMENTS, Definition, Metadata, kind_of, rules_aside
from services.flags.rule_validation import rule_faults
from shared.errors import Invalid

MAX_BYTES = 64 * 1024


def check(definition: Definition, before: Definition | None = None) -> None:
    """Raises Invalid, which lists every fault of the definition with its path; does nothing if there is none. (One
    malformed flag would stop flagd's evaluation of all flags.) If rules and variants are the same as in `before`, the
    rules are not checked, so that a flag whose rules were stored before this check existed can still be turned off.
    """
    same = before is not None and (before.targeting, before.variants) == (definition.targeting, definition.variants)
    if found := list(faults(definition, rules=not same)):
        invalid = Invalid(*found[0])
        invalid.extra["errors"] = [{"field": path, "detail": fault} for path, fault in found]
        raise invalid


def faults(definition: Definition, *, rules: bool = True) -> Iterator[tuple[str, str]]:
    """Yields (path, fault with remedy) for each fault of the definition. Checks the targeting rules only if `rules` is
    True, and the size only if there is no other fault.
    """
    found = [*_faults_of_variants(definition), *_faults_of_metadata(definition.metadata)]
    if rules:
        found += _faults_of_rules(definition)
    yield from found or _faults_of_size(definition)


def _faults_of_variants(definition: Definition) -> Iterator[tuple[str, str]]:
    variants = definition.variants
    if not variants:
        yield "variants", "the last variant cannot be removed; a flag needs at least one"
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
        yield from rule_faults(definition.targeting or {}, "targeting", definition.variants)
    else:  # disabled rules: the level that disabling adds does not count
        yield from rule_faults(aside, "targeting.if.1", definition.variants)


def _faults_of_metadata(metadata: Metadata) -> Iterator[tuple[str, str]]:
    if "" in metadata:
        yield "metadata", "an entry has no name; give it one"
    mirror = metadata.get("mirror", "unused")
    # The name becomes a pattern in the rights of Redis' user `app`, so it must not contain such a pattern's signs.
    if not isinstance(mirror, str) or not re.fullmatch(KEY_PATTERN, mirror) or mirror in ("events", *PATH_SEGMENTS):
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
