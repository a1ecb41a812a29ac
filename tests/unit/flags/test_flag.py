"""A flag is validated, merged with a patch, and mirrored to plain Redis keys."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from services.flags.evaluation import FlagEvaluator
from services.flags.flag import Change, Definition, Flag, FlagKey, Patch, StoredKey, merged, mirrored, plain_value
from services.flags.validation import check
from shared.errors import Invalid
from shared.models import Environment

AT = datetime(2026, 1, 1, tzinfo=UTC)
SWITCH: dict[str, Any] = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}


def definition(**changes: Any) -> Definition:
    return Definition.model_validate(SWITCH | changes)


def nested(depth: int) -> dict[str, Any]:
    rule: dict[str, Any] = {"var": "x"}
    for _ in range(depth):
        rule = {"!": [rule]}
    return rule


FAULTS = [
    ({"defaultVariant": "maybe"}, "defaultVariant", "use one of on, off"),
    ({"defaultVariant": ""}, "defaultVariant", "is no variant"),
    ({"variants": {"on": True, "off": 0}}, "variants.off", "number"),
    ({"variants": {"on": None}, "defaultVariant": None}, "variants.on", "give each variant"),
    ({"variants": {"": True}, "defaultVariant": None}, "variants.", "give each variant a name"),
    ({"variants": {"on": float("inf")}}, "variants", "finite"),
    ({"variants": {"on": "x" * 70_000}}, "variants", "the limit is 65536"),
    ({"targeting": {"iff": [True, "on"]}}, "targeting.iff", "no operator"),
    ({"targeting": {"if": [{"==": [{"vaar": "x"}, 1]}, "on"]}}, "targeting.if.0.==.0.vaar", "no operator"),
    ({"targeting": {"$ref": "beta"}}, "targeting.$ref", "no operator"),
    ({"targeting": {"log": "x"}}, "targeting.log", "no operator"),
    ({"targeting": {"var": "x", "if": []}}, "targeting", "exactly one operator"),
    ({"targeting": {"if": [{"==": [1, 1], "in": [1, [2]]}, "on"]}}, "targeting.if.0", "exactly one operator"),
    ({"targeting": {"if": [{"and": [{}, True]}, "on"]}}, "targeting.if.0.and.0", "exactly one operator"),
    ({"targeting": {"if": [True, "onn", "off"]}}, "targeting.if.1", "use one of on, off"),
    ({"targeting": {"if": [True, True, "off"]}}, "targeting.if.1", "'true' is no variant"),
    ({"targeting": {"if": [True, {"if": [False, "on", "of"]}, "off"]}}, "targeting.if.1.if.2", "'of' is no variant"),
    ({"targeting": {"and": [{"var": "x"}, "onn"]}}, "targeting.and.1", "'onn' is no variant"),
    ({"targeting": {"fractional": [["on", 50], ["of", 50]]}}, "targeting.fractional.1.0", "'of' is no variant"),
    ({"targeting": {"fractional": [["on", 33.3], ["off", 67]]}}, "targeting.fractional.0.1", "whole numbers"),
    ({"targeting": {"fractional": [["on", True], ["off", 67]]}}, "targeting.fractional.0.1", "whole numbers"),
    ({"targeting": {"fractional": [["on", -1], ["off", 67]]}}, "targeting.fractional.0.1", "whole numbers"),
    ({"targeting": {"fractional": [{"var": "x"}, ["on", 0], ["off", 0]]}}, "targeting.fractional", "add up to 0"),
    ({"targeting": {"fractional": [["on", 2**31]]}}, "targeting.fractional", "add up to 2147483648"),
    ({"targeting": {"fractional": [{"var": "x"}, ["on", 1, 2]]}}, "targeting.fractional.1", "[variant, weight]"),
    ({"targeting": {"fractional": [{"var": "x"}, ["on"], "off"]}}, "targeting.fractional.2", "[variant, weight]"),
    ({"targeting": {"if": [{"sem_ver": ["1.0.0", ">="]}, "on"]}}, "targeting.if.0.sem_ver", "3 arguments, not 2"),
    ({"targeting": {"if": [{"sem_ver": [{"var": "v"}, "=>", "1.0.0"]}, "on"]}}, "targeting.if.0.sem_ver.1", "versions"),
    ({"targeting": {"if": [{"sem_ver": [{"var": "v"}, "=", "new"]}, "on"]}}, "targeting.if.0.sem_ver.2", "like 2.0.0"),
    ({"targeting": {"<": [{"var": "x"}, float("nan")]}}, "targeting.<.1", "finite"),
    ({"targeting": nested(20)}, "targeting" + ".!.0" * 16 + ".!", "nested deeper"),
    ({"metadata": {"mirror": "registry:service"}}, "metadata.mirror", "the platform's"),
    ({"metadata": {"mirror": "events"}}, "metadata.mirror", "the platform's"),
    ({"metadata": {"mirror": "*"}}, "metadata.mirror", "letters"),
    ({"metadata": {"mirror": True}}, "metadata.mirror", "letters"),
    ({"metadata": {"mirror": ".."}}, "metadata.mirror", "letters"),
    ({"metadata": {"": 1}}, "metadata", "no name"),
]


@pytest.mark.parametrize(("changes", "field", "remedy"), FAULTS)
def test_a_fault_is_named_with_its_path_and_its_remedy(changes: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(Invalid) as raised:
        check(definition(**changes))
    [fault] = raised.value.extra["errors"]
    assert fault["field"] == field
    assert remedy in fault["detail"]


@pytest.mark.parametrize(
    "wrong", [{"state": "ON"}, {"variants": {}}, {"enabled": True}, {"targeting": "on"}, {"metadata": {"a": [1]}}]
)
def test_a_shape_that_is_not_flagds_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        definition(**wrong)


FRACTIONAL = {"fractional": [["on", 50], ["off", 50]]}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"defaultVariant": None},
        {"targeting": {}},
        {"targeting": nested(10)},
        {"targeting": FRACTIONAL},
        {"targeting": {"if": [{"sem_ver": [{"var": "version"}, ">=", "2.0.0"]}, "on", FRACTIONAL]}},
        {"targeting": {"==": [{"var": "x"}, None]}},
        {"targeting": {"fractional": [{"var": "x"}, ["on", {"var": "share"}], ["off"]]}},
        {"targeting": {"if": [{"var": "x"}, None, {"var": "y"}, {"cat": ["o", "n"]}, "off"]}},
        {"targeting": {"if": [{"==": [{"fractional": [["a", 1], ["b", 1]]}, "a"]}, "on"]}},
        {"targeting": {"if": [{"reduce": [[1], {"+": [1, 2]}, {"a": 1, "b": 2}]}, "on"]}},
        {"targeting": {"if": [False, {}]}},
        {
            "variants": {"true": True, "false": False},
            "defaultVariant": "true",
            "targeting": {"if": [{"var": "x"}, True]},
        },
        {"metadata": {"mirror": "featureFlag", "owner": "notes", "ticket": 12, "ratio": 0.5, "temporary": True}},
        {"variants": {"a": 1, "b": 2.5}, "defaultVariant": "a"},
        {"variants": {"a": {"x": [1, None]}, "b": {}}, "defaultVariant": "a"},
    ],
)
def test_what_the_check_lets_through_the_evaluator_can_load(changes: dict[str, Any]) -> None:
    checked = definition(**changes)
    check(checked)
    flag = Flag(key="k", environment=Environment.PRODUCTION, definition=checked, updated_at=AT)
    assert FlagEvaluator(flag).flag == flag


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"defaultVariant": "off"}, {"defaultVariant": "off"}),
        ({"defaultVariant": None}, {"defaultVariant": None}),
        ({"state": "DISABLED"}, {"state": "DISABLED"}),
        ({"variants": {"off": None, "no": False}}, {"variants": {"on": True, "no": False}}),
        ({"metadata": {"owner": None, "why": "x"}}, {"metadata": {"why": "x"}}),
        ({"targeting": {"var": "b"}}, {"targeting": {"var": "b"}}),
        ({"targeting": None}, {"targeting": None}),
        ({}, {}),
    ],
)
def test_a_patch_changes_what_it_names(patch: dict[str, Any], expected: dict[str, Any]) -> None:
    before = {"metadata": {"owner": "ann"}, "targeting": {"var": "a"}}
    assert merged(definition(**before), Patch.model_validate(patch)) == definition(**before | expected)


def test_a_patch_can_neither_take_the_state_nor_every_variant() -> None:
    with pytest.raises(Invalid, match="state"):
        merged(definition(), Patch.model_validate({"state": None}))
    with pytest.raises(Invalid, match="variants"):
        check(
            merged(definition(), Patch.model_validate({"variants": {"on": None, "off": None}, "defaultVariant": None}))
        )


def test_a_flag_whose_rules_were_stored_before_they_were_checked_can_be_turned_off() -> None:
    before = definition(targeting={"if": [{"in": [1, [2]], "var": "x"}, "onn"]})
    check(merged(before, Patch.model_validate({"state": "DISABLED"})), before)
    with pytest.raises(Invalid, match="exactly one operator"):
        check(merged(before, Patch.model_validate({"variants": {"more": True}})), before)


@pytest.mark.parametrize(("key", "remedy"), [(".", "another place"), ("..", "another place"), ("events", "platform")])
def test_a_key_that_no_url_can_carry_is_refused(key: str, remedy: str) -> None:
    with pytest.raises(ValidationError, match=remedy):
        TypeAdapter(FlagKey).validate_python(key)
    assert TypeAdapter(StoredKey).validate_python(key) == key


@pytest.mark.parametrize(
    ("changes", "plain"),
    [
        ({}, "1"),
        ({"defaultVariant": "off"}, "0"),
        ({"state": "DISABLED"}, "0"),
        ({"defaultVariant": None}, "0"),
        ({"targeting": {"if": [True, "off"]}}, "1"),
        ({"variants": {"on": "blue"}}, "blue"),
        ({"variants": {"on": 1}}, "1"),
        ({"variants": {"on": 2.5}}, "2.5"),
        ({"variants": {"on": {"a": [1]}}}, '{"a":[1]}'),
        ({"variants": {"on": "blue"}, "state": "DISABLED"}, None),
        ({"variants": {"on": "blue"}, "defaultVariant": None}, None),
    ],
)
def test_the_plain_value_of_a_flag(changes: dict[str, Any], plain: str | None) -> None:
    assert plain_value(definition(**changes)) == plain


def test_mirrors_follow_a_flag_through_its_life() -> None:
    named, renamed = definition(metadata={"mirror": "old"}), definition(metadata={"mirror": "new"})

    def keys(before: Definition | None, after: Definition | None, where: str = "production") -> dict[str, str | None]:
        change = Change(key="k", environment=Environment(where), at=AT, actor="a", before=before, after=after)
        return mirrored(change)

    assert keys(None, named) == {"flag:k": "1", "old": "1"}
    assert keys(named, renamed) == {"flag:k": "1", "old": None, "new": "1"}
    assert keys(named, definition()) == {"flag:k": "1", "old": None}
    assert keys(named, None) == {"flag:k": None, "old": None}
    assert keys(None, named, "canary") == {"flag:canary:k": "1"}
    assert keys(named, None, "canary") == {"flag:canary:k": None}
