"""Exports and imports sets of flags in flagd's file format. An import is applied completely or not at all."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import JsonValue, TypeAdapter, ValidationError

from services.flags.change import FlagId, Flags, Wanted
from services.flags.flag import Definition, Flag, FlagKey
from services.flags.slices import sliced
from services.flags.validation import faults
from shared.errors import Problem
from shared.models import Environment

SCHEMA = "https://flagd.dev/schema/v0/flags.json"
MAX_NESTED = 200  # levels of nested parts in a rule with its evaluators inserted; a valid rule has fewer
MAX_PARTS = 20_000  # parts of one flag's rules with evaluators inserted; a flag of 64 KiB has fewer
Mode = Literal["merge", "replace"]
KEY: TypeAdapter[str] = TypeAdapter(FlagKey)


async def flagd_file(flags: Sequence[Flag]) -> AsyncIterator[str]:
    """Yields the given flags of one environment, in their order, as the text of a flagd file."""
    yield f'{{"$schema":{json.dumps(SCHEMA)},"flags":{{'
    separator = ""
    async for part in sliced(flags):
        texts = ((flag.key, flag.definition.model_dump_json(by_alias=True, exclude_defaults=True)) for flag in part)
        yield separator + ",".join(f'"{key}":{text}' for key, text in texts)
        separator = ","
    yield "}}"


@dataclass
class Parsed:
    """Holds the content of a flagd file and its faults."""

    definitions: dict[FlagId, Definition] = field(default_factory=dict)
    """Definitions in the file that have the right form."""
    prefixes: dict[Environment, str] = field(default_factory=dict)
    """Environment in the file → prefix of paths in faults: empty, or `environments.<name>.`."""
    faults: list[tuple[str, str]] = field(default_factory=list)
    """(path in the file, fault) of each fault."""


def parse(document: Mapping[str, Any], environment: Environment) -> Parsed:
    """Returns the content and the faults of a flagd file for `environment`, or of `{"environments": {<environment>:
    <flagd file>}}` for several environments. As flagd does, it replaces each `$ref` by the named entry of
    `$evaluators`, and merges the file's `metadata` into each flag. It never raises an error for a fault.
    """
    parsed = Parsed()
    several = document.get("environments")
    if several is None:
        _read_file(document, environment, "", parsed)
        return parsed
    for name in sorted(document.keys() - {"environments"}):
        parsed.faults.append((name, "not allowed beside environments; leave it out"))
    if not isinstance(several, dict) or not several:
        parsed.faults.append(("environments", "an object: environment → flagd file"))
        return parsed
    for name, file in several.items():
        path = f"environments.{name}"
        if name not in list(Environment):
            parsed.faults.append((path, f"no environment; use one of {', '.join(Environment)}"))
        elif not isinstance(file, dict):
            parsed.faults.append((path, "a flagd file is an object with the member flags"))
        else:
            _read_file(file, Environment(name), f"{path}.", parsed)
    return parsed


def _read_file(file: Mapping[str, JsonValue], environment: Environment, prefix: str, parsed: Parsed) -> None:
    parsed.prefixes[environment] = prefix
    for name in sorted(file.keys() - {"$schema", "flags", "$evaluators", "metadata"}):
        parsed.faults.append((f"{prefix}{name}", "not a member of a flagd file; leave it out"))
    parts = {name: file.get(name, {}) for name in ("flags", "$evaluators", "metadata")}
    if "flags" not in file:
        parsed.faults.append((f"{prefix}flags", "missing; an empty object means no flags"))
    wrong = [name for name, part in parts.items() if not isinstance(part, dict)]
    parsed.faults += [(f"{prefix}{name}", "must be an object") for name in wrong]
    if wrong:
        return
    flags, evaluators, metadata = (dict(part) for part in parts.values() if isinstance(part, dict))
    for key, text in flags.items():
        found = _Reader(f"{prefix}flags.{key}", evaluators, metadata)
        definition = found.read(key, text)
        parsed.faults += found.faults
        if definition:
            parsed.definitions[FlagId(environment, key)] = definition


class _NoEnd(Exception):
    """Reports that references to evaluators form a circle, or that they would make a rule too large."""


class _Reader:
    """Parses one flag of a file, and appends its faults to `faults`."""

    def __init__(self, path: str, evaluators: Mapping[str, JsonValue], metadata: Mapping[str, JsonValue]) -> None:
        self.faults: list[tuple[str, str]] = []
        self._path = path
        self._evaluators = evaluators
        self._metadata = metadata
        self._parts = 0

    def read(self, key: str, text: JsonValue) -> Definition | None:
        try:
            KEY.validate_python(key)
        except ValidationError as error:
            self.faults.append((self._path, f"{key!r} is no key: {_message(error.errors()[0])}"))
        if isinstance(text, dict):
            own = text.get("metadata", {})
            if isinstance(own, dict) and self._metadata:
                text = text | {"metadata": dict(self._metadata) | own}
            if text.get("targeting"):
                try:
                    text = text | {"targeting": self._with_evaluators(text["targeting"])}
                except _NoEnd as fault:
                    self.faults.append((f"{self._path}.targeting", str(fault)))
        try:
            definition = Definition.model_validate(text)
        except ValidationError as error:
            found = {_location(fault["loc"]): _message(fault) for fault in error.errors()}
            self.faults += [(".".join([self._path, *location]), message) for location, message in found.items()]
            return None
        self.faults += [(f"{self._path}.{path}", detail) for path, detail in faults(definition)]
        return definition

    def _with_evaluators(self, rule: JsonValue, within: tuple[str, ...] = (), depth: int = 0) -> JsonValue:
        """Returns the rule with each `$ref` replaced by the evaluator that it names. `within` names the evaluators that
        contain the rule. Raises _NoEnd if references form a circle, or if the rule becomes too large.
        """
        if depth > MAX_NESTED:
            raise _NoEnd(f"nested deeper than {MAX_NESTED}; split it")
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _NoEnd("too large once its evaluators are inserted; use fewer references")
        if isinstance(rule, list):
            return [self._with_evaluators(part, within, depth + 1) for part in rule]
        if not isinstance(rule, dict):
            return rule
        name = rule.get("$ref")
        if len(rule) == 1 and isinstance(name, str) and name in self._evaluators:
            if name in within:
                raise _NoEnd(f"the evaluator {name} refers to itself; break the circle")
            return self._with_evaluators(self._evaluators[name], (*within, name), depth)
        return {operator: self._with_evaluators(part, within, depth + 1) for operator, part in rule.items()}


def _location(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Returns the location that pydantic gives for an error, without the name of a type that it appends for metadata
    (`metadata.owner.bool`).
    """
    return tuple(str(part) for part in (loc[:2] if loc[:1] == ("metadata",) else loc))


def _message(fault: Any) -> str:
    if fault["loc"][:1] == ("metadata",) and len(fault["loc"]) > 1:
        return "must be a boolean, a number or a string"
    return str(fault["msg"]).removeprefix("Value error, ")


def refuse(found: Sequence[tuple[str, str]]) -> None:
    """Raises a Problem (422) that lists all faults in `found`, pairs of path and fault; does nothing without any."""
    if found:
        errors = [{"field": path, "detail": detail} for path, detail in dict.fromkeys(found)]
        more = f" (and {len(errors) - 1} more, see errors)" if len(errors) > 1 else ""
        detail = f"nothing was written: {errors[0]['field']}: {errors[0]['detail']}{more}"
        raise Problem(detail, status=422, errors=errors)


def wanted(parsed: Parsed, flags: Flags, mode: Mode) -> Wanted:
    """Returns id of a flag → the definition that the import stores, or None to delete the flag. With `merge`, flags
    that the file does not name are kept; with `replace`, they are deleted in the environments of the file. Raises a
    Problem (422) that lists every fault.
    """
    after: dict[FlagId, Definition | None] = {}
    if mode == "replace":
        after = {flag_id: None for flag_id in flags if flag_id.environment in parsed.prefixes}
    after |= parsed.definitions
    refuse([*parsed.faults, *_twice_mirrored(parsed, flags, after)])
    return after


def _twice_mirrored(parsed: Parsed, flags: Flags, after: Wanted) -> Iterator[tuple[str, str]]:
    left = {flag_id: flag.definition for flag_id, flag in flags.items() if flag_id not in after}
    owners = {each.mirror: flag_id.key for flag_id, each in left.items() if _is_owner(flag_id, each)}
    for flag_id, definition in parsed.definitions.items():
        if _is_owner(flag_id, definition) and owners.setdefault(definition.mirror, flag_id.key) != flag_id.key:
            owner = owners[definition.mirror]
            path = f"{parsed.prefixes[flag_id.environment]}flags.{flag_id.key}.metadata.mirror"
            yield path, f"{definition.mirror} is the mirror of flag {owner}; choose another name"


def _is_owner(flag_id: FlagId, definition: Definition) -> bool:
    return flag_id.environment == Environment.PRODUCTION and definition.mirror is not None
