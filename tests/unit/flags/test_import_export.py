"""Whole sets of flags: out and in without loss, every fault by its path, nothing or all."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from services.flags.change import FlagId, Flags, Wanted
from services.flags.flag import Definition, Flag
from services.flags.import_export import Mode, flagd_file, parse, wanted
from services.flags.slices import SLICE
from shared.errors import Problem
from shared.models import Environment

AT = datetime(2026, 1, 1, tzinfo=UTC)
PRODUCTION, CANARY = Environment
SWITCH: dict[str, Any] = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}


def stored(environment: Environment, **flags: dict[str, Any]) -> Flags:
    return {
        FlagId(environment, key): Flag(
            key=key, environment=environment, definition=Definition.model_validate(given), updated_at=AT
        )
        for key, given in flags.items()
    }


def take_in(document: dict[str, Any], flags: Flags | None = None, mode: Mode = "merge") -> Wanted:
    return wanted(parse(document, PRODUCTION), flags or {}, mode)


def faults_of(document: dict[str, Any], flags: Flags | None = None) -> list[tuple[str, str]]:
    with pytest.raises(Problem) as raised:
        take_in(document, flags)
    assert raised.value.status == 422
    assert raised.value.detail.startswith("nothing was written: ")
    return [(fault["field"], fault["detail"]) for fault in raised.value.extra["errors"]]


EVERY_KIND = {
    "a": SWITCH | {"state": "DISABLED"},
    "b": SWITCH | {"defaultVariant": None},
    "c": SWITCH | {"targeting": {}},
    "d": SWITCH | {"targeting": {"if": [False, {"fractional": [["on", 1], ["off", 2]]}]}},
    "e": {"state": "ENABLED", "variants": {"x": {"deep": [1, None, {"é": 1.0}]}, "y": {}}, "defaultVariant": "y"},
    "f": {"state": "ENABLED", "variants": {"x": 1, "y": 0.5}, "defaultVariant": "x"},
    "g": SWITCH | {"metadata": {"owner": "ann", "mirror": "m", "ticket": 12, "share": 0.5, "temporary": True}},
}


async def exported(flags: Flags) -> Any:
    return json.loads("".join([part async for part in flagd_file(list(flags.values()))]))


@pytest.mark.anyio
async def test_what_goes_out_comes_in_without_loss() -> None:
    flags = stored(PRODUCTION, **EVERY_KIND)
    file = await exported(flags)
    back = take_in(file)
    dumped = {flag_id: flag.definition.model_dump_json() for flag_id, flag in flags.items()}
    assert {flag_id: after and after.model_dump_json() for flag_id, after in back.items()} == dumped


@pytest.mark.anyio
@pytest.mark.parametrize("count", [0, SLICE, SLICE + 1])
async def test_a_file_of_several_slices_is_one_document(count: int) -> None:
    keys = [f"k{number}" for number in range(count)]
    file = await exported(stored(PRODUCTION, **dict.fromkeys(keys, SWITCH)))
    assert file["flags"] == dict.fromkeys(keys, SWITCH)


def test_a_merge_leaves_what_the_file_does_not_name_and_replace_deletes_it_there_alone() -> None:
    flags = {**stored(PRODUCTION, old=SWITCH, both=SWITCH), **stored(CANARY, old=SWITCH)}
    new = {"both": SWITCH | {"defaultVariant": "off"}}
    after = Definition.model_validate(new["both"])
    assert take_in({"flags": new}, flags) == {FlagId(PRODUCTION, "both"): after}
    assert take_in({"flags": new}, flags, "replace") == {
        FlagId(PRODUCTION, "both"): after,
        FlagId(PRODUCTION, "old"): None,
    }
    everywhere = {"environments": {"production": {"flags": new}, "canary": {"flags": {}}}}
    assert take_in(everywhere, flags, "replace") == {
        FlagId(PRODUCTION, "both"): after,
        FlagId(PRODUCTION, "old"): None,
        FlagId(CANARY, "old"): None,
    }


def test_every_fault_is_named_with_its_path() -> None:
    document = {
        "flags": {
            "fine": SWITCH,
            "rule": SWITCH | {"targeting": {"if": [{"wat": []}, "on"]}, "defaultVariant": "maybe"},
            "state": {"variants": {"on": True}, "state": "ON"},
            "kinds": SWITCH | {"variants": {"on": True, "off": 0}},
            "extra": SWITCH | {"enabled": True, "metadata": {"list": []}},
            "a:b": SWITCH,
            "text": "on",
        },
        "flag": {},
    }
    found = faults_of(document)
    assert {path for path, _ in found} == {
        "flag",
        "flags.rule.targeting.if.0.wat",
        "flags.rule.defaultVariant",
        "flags.state.state",
        "flags.kinds.variants.off",
        "flags.extra.enabled",
        "flags.extra.metadata.list",
        "flags.a:b",
        "flags.text",
    }
    assert len(found) == 9
    assert all(detail for _, detail in found)


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ({}, ["flags"]),
        ({"flags": []}, ["flags"]),
        ({"flags": {}, "$evaluators": 1, "metadata": 1}, ["$evaluators", "metadata"]),
        ({"environments": {}}, ["environments"]),
        ({"environments": {"staging": {"flags": {}}, "canary": []}}, ["environments.staging", "environments.canary"]),
        ({"environments": {"canary": {"flags": {}}}, "flags": {}}, ["flags"]),
        (
            {"environments": {"canary": {"flags": {"k": SWITCH | {"defaultVariant": "x"}}}}},
            ["environments.canary.flags.k.defaultVariant"],
        ),
    ],
)
def test_a_file_of_another_shape_is_refused(document: dict[str, Any], paths: list[str]) -> None:
    assert [path for path, _ in faults_of(document)] == paths


def named(mirror: str) -> dict[str, Any]:
    return SWITCH | {"metadata": {"mirror": mirror}}


def test_two_flags_that_want_one_mirror_are_a_fault_of_the_file() -> None:
    [(path, detail)] = faults_of({"flags": {"a": named("m"), "b": named("m")}})
    assert path == "flags.b.metadata.mirror"
    assert "mirror of flag a" in detail
    owned = stored(PRODUCTION, a=named("m"))
    assert faults_of({"flags": {"b": named("m")}}, owned)[0][0] == "flags.b.metadata.mirror"
    assert len(take_in({"flags": {"b": named("m")}}, owned, "replace")) == 2
    both = {"environments": {"production": {"flags": {"b": named("m")}}, "canary": {"flags": {"c": named("m")}}}}
    assert faults_of(both, owned)[0][0] == "environments.production.flags.b.metadata.mirror"
    assert take_in({"environments": {"canary": {"flags": {"b": named("m")}}}}, owned)


def test_evaluators_and_the_sets_metadata_are_put_into_the_flags() -> None:
    document = {
        "$schema": "https://flagd.dev/schema/v0/flags.json",
        "$evaluators": {
            "staff": {"and": [{"$ref": "mail"}, True]},
            "mail": {"ends_with": [{"var": "email"}, "@x.org"]},
        },
        "metadata": {"owner": "all", "team": "a"},
        "flags": {"k": SWITCH | {"targeting": {"if": [{"$ref": "staff"}, "off"]}, "metadata": {"owner": "ann"}}},
    }
    [after] = take_in(document).values()
    assert after
    rule = {"and": [{"ends_with": [{"var": "email"}, "@x.org"]}, True]}
    assert after.targeting == {"if": [rule, "off"]}
    assert after.metadata == {"owner": "ann", "team": "a"}


BOMB = {"a": {"and": [{"$ref": "1"}]}} | {str(n): {"and": [{"$ref": str(n + 1)}] * 2} for n in range(1, 40)}


@pytest.mark.parametrize(
    ("evaluators", "fault"),
    [
        ({}, ("flags.k.targeting.if.0.$ref", "no operator")),
        ({"a": {"!": [{"$ref": "a"}]}}, ("flags.k.targeting", "refers to itself")),
        ({"a": {"and": [{"$ref": "b"}, 1]}, "b": {"!": [{"$ref": "a"}]}}, ("flags.k.targeting", "refers to itself")),
        (BOMB, ("flags.k.targeting", "too large")),
    ],
)
def test_an_evaluator_that_is_not_there_or_never_ends(evaluators: dict[str, Any], fault: tuple[str, str]) -> None:
    flags = {"k": SWITCH | {"targeting": {"if": [{"$ref": "a"}, "on"]}}}
    path, detail = faults_of({"$evaluators": evaluators, "flags": flags})[0]
    assert path == fault[0] and fault[1] in detail
