"""Computes the changes that a write makes to the existing flags, and checks the write's `If-Match`."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from pydantic import JsonValue

from services.flags.flag import Change, Definition, Flag, Patch, merged, rules_aside
from services.flags.validation import check
from shared.errors import Conflict, Invalid, Problem
from shared.models import Environment

Rules = Literal["keep", "aside", "back"]


class FlagId(NamedTuple):
    """Identifies the definition of a flag in one environment. A flag has the same key in all environments."""

    environment: Environment
    key: str


Flags = Mapping[FlagId, Flag]
Wanted = Mapping[FlagId, Definition | None]
Decide = Callable[[Flags], Wanted]


def flag_ids(key: str, environment: Environment | None) -> list[FlagId]:
    """Returns the flag's id in `environment`, or its ids in all environments if `environment` is None."""
    return [FlagId(each, key) for each in ([environment] if environment else Environment)]


def tag(flags: Flags, ids: Iterable[FlagId]) -> str | None:
    """Returns a strong ETag, with its quotes, of those flags of `ids` that exist; None if none exists."""
    there = [flags[flag_id].model_dump_json(by_alias=True) for flag_id in sorted(ids) if flag_id in flags]
    return f'"{hashlib.sha256("".join(there).encode()).hexdigest()[:20]}"' if there else None


@dataclass(frozen=True)
class Precondition:
    """Holds the values of the headers `If-Match` and `If-None-Match` (RFC 9110); None for a header that was not
    sent.
    """

    if_match: str | None = None
    if_none_match: str | None = None

    def hold(self, flags: Flags, ids: Sequence[FlagId]) -> None:
        """Raises a Problem (412) if the headers forbid a write to `ids`, which are one flag in one or all environments.
        The ETag of the flag in all environments also permits a write to one of them. The ETag of the flag in one
        environment does not permit a write to all.
        """
        key = ids[0].key
        now = tag(flags, ids)
        current = {now, tag(flags, flag_ids(key, None))} - {None}
        names = " and ".join(flag_id.environment for flag_id in ids if flag_id in flags)
        if self.if_match is not None and not _names(self.if_match, current):
            found = f"flag {key} is not what it was when you read it" if current else f"there is no flag {key} any more"
            remedy = f"GET /flags/{key} again, decide anew, and send that answer's ETag as If-Match"
            raise Problem(f"{found}; {remedy}", status=412, etag=now)
        if self.if_none_match is not None and now and _names(self.if_none_match, current):
            remedy = "choose another key, or leave If-None-Match out to replace it"
            raise Problem(f"flag {key} is already in {names}; {remedy}", status=412, etag=now)


def _names(header: str, current: Iterable[str | None]) -> bool:
    listed = {each.strip() for each in header.split(",")}
    return bool(set(current) & listed) or (listed == {"*"} and bool(current))


def put(ids: Sequence[FlagId], definition: Definition, condition: Precondition) -> Decide:
    """Returns a function for `FlagStore.change` that sets the definition of each of the flags `ids`, if `condition`
    holds; it creates flags that do not exist. Raises Invalid for a faulty definition.
    """
    check(definition)
    return _each(ids, condition, lambda current: definition)


def patched(ids: Sequence[FlagId], patch: Patch, condition: Precondition) -> Decide:
    """Returns a function for `FlagStore.change` that applies the patch to those of the flags `ids` that exist, if
    `condition` holds. If none exists, it changes nothing. It raises Invalid if a patched definition is faulty.
    """

    def after(current: Definition | None) -> Definition | None:
        if current is None:
            return None
        result = merged(current, patch)
        check(result, current)
        return result

    return _each(ids, condition, after)


def deleted(ids: Sequence[FlagId], condition: Precondition) -> Decide:
    return _each(ids, condition, lambda current: None)


def switched(ids: Sequence[FlagId], to: str, rules: Rules, condition: Precondition) -> Decide:
    """Returns a function for `FlagStore.change` that makes `to` the default variant of those of the flags `ids` that
    exist. It also enables them, because callers of a disabled flag use their own default. It raises Invalid if one of
    them has no variant `to`. `rules` says what happens to the targeting rules: `keep` leaves them in force, so that
    they can still choose another variant; `aside` disables them, so that every caller gets `to`; `back` restores
    disabled rules.
    """

    def after(current: Definition | None) -> Definition | None:
        if current is None:
            return None
        if to not in current.variants:
            raise Invalid("to", f"{to!r} is no variant; use one of {', '.join(current.variants)}")
        targeting = _with_rules(current.targeting, rules)
        return current.model_copy(update={"state": "ENABLED", "default_variant": to, "targeting": targeting})

    return _each(ids, condition, after)


def _with_rules(targeting: dict[str, JsonValue] | None, rules: Rules) -> dict[str, JsonValue] | None:
    aside = rules_aside(targeting)
    if rules == "aside" and targeting and aside is None:
        return {"if": [False, targeting]}
    return aside if rules == "back" and aside is not None else targeting


def _each(
    ids: Sequence[FlagId], condition: Precondition, after: Callable[[Definition | None], Definition | None]
) -> Decide:
    def decide(flags: Flags) -> Wanted:
        condition.hold(flags, ids)
        return {flag_id: after(flags[flag_id].definition if flag_id in flags else None) for flag_id in ids}

    return decide


def mirrors_after(owners: Mapping[str, str], changes: Sequence[Change]) -> dict[str, str]:
    """Returns, after the changes, the name of each extra Redis key that a flag's `metadata.mirror` asks for → key of
    the flag that owns it. `owners` holds the same before the changes. Raises Conflict if two flags name the same Redis
    key.
    """
    owned = [change for change in changes if change.environment == Environment.PRODUCTION]
    left = dict(owners)
    for change in owned:
        if change.before and change.before.mirror:
            left.pop(change.before.mirror, None)
    for change in owned:
        name = change.after.mirror if change.after else None
        if name and left.setdefault(name, change.key) != change.key:
            raise Conflict(f"metadata.mirror: {name} is the mirror of flag {left[name]}; choose another name")
    return left


def changes_of(flags: Flags, wanted: Wanted, actor: str, at: datetime) -> list[Change]:
    """Returns the changes, made by `actor` at `at`, that turn `flags` into `wanted`. In `wanted`, None deletes a flag.
    A definition that stays the same is no change.
    """
    changes = []
    for flag_id, after in wanted.items():
        before = flags[flag_id].definition if flag_id in flags else None
        # Compared as JSON, because 1, 1.0 and True are equal in Python.
        if (after and after.model_dump_json()) != (before and before.model_dump_json()):
            changes.append(
                Change(key=flag_id.key, environment=flag_id.environment, at=at, actor=actor, before=before, after=after)
            )
    return changes


def flag_after(change: Change) -> Flag | None:
    """Returns the flag as it is stored after the change; None if it was deleted."""
    if change.after is None:
        return None
    return Flag(
        key=change.key,
        environment=change.environment,
        definition=change.after,
        updated_at=change.at,
        updated_by=change.actor,
    )
