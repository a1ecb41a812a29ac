"""A write computes changes from the existing flags, and is refused if its preconditions do not hold."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.flags.change import (
    FlagId,
    Flags,
    Precondition,
    Rules,
    changes_of,
    deleted,
    flag_ids,
    mirrors_after,
    patched,
    put,
    switched,
    tag,
)
from services.flags.evaluation import FlagEvaluator, evaluation_context
from services.flags.flag import Change, Definition, Flag, Patch, rules_aside
from shared.errors import Conflict, Invalid, Problem
from shared.models import Environment

AT = datetime(2026, 1, 1, tzinfo=UTC)
PRODUCTION, CANARY = Environment
BOTH = flag_ids("k", None)
RULE: dict[str, Any] = {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]}
ASIDE = {"if": [False, RULE]}


def definition(**changes: Any) -> Definition:
    given = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
    return Definition.model_validate(given | changes)


def stored(environment: Environment = PRODUCTION, key: str = "k", at: datetime = AT, **changes: Any) -> Flags:
    flag = Flag(key=key, environment=environment, definition=definition(**changes), updated_at=at)
    return {FlagId(environment, key): flag}


EVERYWHERE = {**stored(PRODUCTION), **stored(CANARY)}


def test_a_tag_is_of_the_flag_in_those_places_and_of_its_last_change() -> None:
    one, all_of_it = tag(EVERYWHERE, flag_ids("k", PRODUCTION)), tag(EVERYWHERE, BOTH)
    assert one and one.startswith('"') and one.endswith('"')
    tags = [
        one,
        all_of_it,
        tag(EVERYWHERE, flag_ids("k", CANARY)),
        tag(stored(defaultVariant="off"), BOTH),
        tag(stored(at=AT.replace(year=2027)), BOTH),
    ]
    assert len(set(tags)) == len(tags)
    assert tag(dict(reversed(EVERYWHERE.items())), reversed(BOTH)) == all_of_it
    assert tag({}, BOTH) is None


@pytest.mark.parametrize(
    ("given", "where", "holds"),
    [
        (Precondition(), BOTH, True),
        (Precondition(if_match=tag(EVERYWHERE, BOTH)), BOTH, True),
        (Precondition(if_match=f'"other", {tag(EVERYWHERE, BOTH)}'), BOTH, True),
        (Precondition(if_match="*"), BOTH, True),
        (Precondition(if_match='"other"'), BOTH, False),
        (Precondition(if_match=f"W/{tag(EVERYWHERE, BOTH)}"), BOTH, False),
        (Precondition(if_match=tag(EVERYWHERE, BOTH)), flag_ids("k", CANARY), True),
        (Precondition(if_match=tag(EVERYWHERE, flag_ids("k", CANARY))), flag_ids("k", CANARY), True),
        (Precondition(if_match=tag(EVERYWHERE, flag_ids("k", PRODUCTION))), flag_ids("k", CANARY), False),
        (Precondition(if_match=tag(EVERYWHERE, flag_ids("k", PRODUCTION))), BOTH, False),
        (Precondition(if_none_match="*"), BOTH, False),
        (Precondition(if_none_match="*"), flag_ids("other", None), True),
        (Precondition(if_none_match=tag(EVERYWHERE, BOTH)), BOTH, False),
        (Precondition(if_none_match='"other"'), BOTH, True),
        (Precondition(if_match="*"), flag_ids("other", None), False),
    ],
)
def test_a_write_goes_on_only_if_its_precondition_holds(given: Precondition, where: list[FlagId], holds: bool) -> None:
    decide = deleted(where, given)
    if holds:
        assert decide(EVERYWHERE) == dict.fromkeys(where)
        return
    with pytest.raises(Problem) as raised:
        decide(EVERYWHERE)
    assert raised.value.status == 412
    assert ";" in raised.value.detail  # what is wrong; what to do


def test_created_only_where_it_is_not_yet() -> None:
    only_canary = stored(CANARY)
    new = Precondition(if_none_match="*")
    assert put(flag_ids("k", PRODUCTION), definition(), new)(only_canary)
    with pytest.raises(Problem, match="already in canary"):
        put(BOTH, definition(), new)(only_canary)


def test_put_and_patch_are_checked_before_anything_is_wanted() -> None:
    with pytest.raises(Invalid, match="defaultVariant"):
        put(BOTH, definition(defaultVariant="maybe"), Precondition())
    patch = Patch.model_validate({"defaultVariant": "maybe"})
    with pytest.raises(Invalid, match="defaultVariant"):
        patched(BOTH, patch, Precondition())(EVERYWHERE)
    off = patched(BOTH, Patch.model_validate({"defaultVariant": "off"}), Precondition())(stored(CANARY))
    assert off == {FlagId(PRODUCTION, "k"): None, FlagId(CANARY, "k"): definition(defaultVariant="off")}


@pytest.mark.parametrize(
    ("before", "to", "rules", "after"),
    [
        ({}, "off", "keep", {"defaultVariant": "off"}),
        ({"state": "DISABLED"}, "off", "keep", {"defaultVariant": "off"}),
        ({"defaultVariant": None}, "on", "keep", {}),
        ({"targeting": RULE}, "off", "keep", {"defaultVariant": "off", "targeting": RULE}),
        ({"targeting": RULE}, "off", "aside", {"defaultVariant": "off", "targeting": ASIDE}),
        ({"targeting": ASIDE}, "off", "aside", {"defaultVariant": "off", "targeting": ASIDE}),
        ({"targeting": ASIDE}, "on", "keep", {"targeting": ASIDE}),
        ({"targeting": ASIDE}, "on", "back", {"targeting": RULE}),
        ({"targeting": RULE}, "on", "back", {"targeting": RULE}),
        ({}, "off", "aside", {"defaultVariant": "off"}),
    ],
)
def test_a_switch_serves_the_variant_from_then_on(
    before: dict[str, Any], to: str, rules: Rules, after: dict[str, Any]
) -> None:
    result = switched(flag_ids("k", PRODUCTION), to, rules, Precondition())(stored(**before))
    assert result == {FlagId(PRODUCTION, "k"): definition(**after)}


def test_with_its_rules_aside_everybody_gets_the_variant_and_back_they_decide() -> None:
    killed = switched(flag_ids("k", PRODUCTION), "off", "aside", Precondition())(stored(targeting=RULE))
    [after] = killed.values()
    assert after and rules_aside(after.targeting) == RULE

    def value(targeting: Any) -> tuple[object, str]:
        [flag, *_] = stored(defaultVariant="off", targeting=targeting).values()
        evaluation = FlagEvaluator(flag).evaluate(evaluation_context({"plan": "pro"}))
        return evaluation.value, evaluation.reason

    assert value(RULE) == (True, "TARGETING_MATCH")
    assert value(after.targeting) == (False, "DEFAULT")


@pytest.mark.parametrize(
    "targeting",
    [
        None,
        {},
        RULE,
        {"if": [0, RULE]},
        {"if": [False, RULE, "on"]},
        {"if": [False, "on"]},
        {"if": False},
        {"!": [RULE]},
    ],
)
def test_rules_that_only_look_as_if_set_aside_count(targeting: dict[str, Any] | None) -> None:
    assert rules_aside(targeting) is None


def test_a_switch_to_what_is_no_variant_says_which_there_are() -> None:
    with pytest.raises(Invalid, match="use one of on, off"):
        switched(BOTH, "maybe", "keep", Precondition())(EVERYWHERE)
    assert switched(BOTH, "maybe", "keep", Precondition())({}) == dict.fromkeys(BOTH)


def change(key: str, before: str | None, after: str | None, environment: Environment = PRODUCTION) -> Change:
    def named(mirror: str | None) -> Definition | None:
        return None if mirror is None else definition(metadata={"mirror": mirror} if mirror else {})

    return Change(key=key, environment=environment, at=AT, actor="ann", before=named(before), after=named(after))


@pytest.mark.parametrize(
    ("owners", "changes", "left"),
    [
        ({}, [change("a", None, "m")], {"m": "a"}),
        ({"m": "a"}, [change("a", "m", None)], {}),
        ({"m": "a"}, [change("a", "m", "")], {}),
        ({"m": "a"}, [change("a", "m", "n")], {"n": "a"}),
        ({"m": "a", "n": "b"}, [change("a", "m", "n"), change("b", "n", "m")], {"m": "b", "n": "a"}),
        ({"m": "a"}, [change("b", None, "m", CANARY)], {"m": "a"}),
    ],
)
def test_who_has_which_mirror_afterwards(owners: dict[str, str], changes: list[Change], left: dict[str, str]) -> None:
    assert mirrors_after(owners, changes) == left


@pytest.mark.parametrize("changes", [[change("b", None, "m")], [change("a", None, "n"), change("b", None, "n")]])
def test_two_flags_cannot_have_one_mirror(changes: list[Change]) -> None:
    with pytest.raises(Conflict, match="is the mirror of flag a"):
        mirrors_after({"m": "a"}, changes)


def test_a_change_is_what_is_another_as_json() -> None:
    wanted = {
        FlagId(PRODUCTION, "k"): definition(variants={"on": 1, "off": 0}),
        FlagId(CANARY, "k"): definition(),
    }
    [found] = changes_of(EVERYWHERE, wanted, "ann", AT)
    assert (found.environment, found.actor, found.at) == (PRODUCTION, "ann", AT)
    assert (found.before, found.after) == (definition(), definition(variants={"on": 1, "off": 0}))
