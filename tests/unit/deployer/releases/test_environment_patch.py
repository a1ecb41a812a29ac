"""A patch of an environment is accepted or refused, and results in an override."""

import re
from typing import Any

import pytest
from pydantic import SecretStr

from services.deployer.releases.environment import Locked, Override, SecretOverride
from services.deployer.releases.environment_patch import ALL_BYTES, VALUE_BYTES, EnvironmentPatch
from shared.errors import Invalid
from shared.manifest import MIB
from tests.support.deployer.fakes import T0, a_manifest, after, with_volume

MANIFEST = a_manifest(memory="64m", max_memory="256m", replicas=1, max_replicas=3)
BEFORE = Override(
    replicas=2,
    variables={"SHOWN": "yes"},
    secrets={"HIDDEN": SecretOverride(value=SecretStr("old"), set_at=T0)},
    configuration="before",
)


def patch(**given: Any) -> EnvironmentPatch:
    return EnvironmentPatch.model_validate(given)


def applied(to: Override = BEFORE, **given: Any) -> Override:
    return patch(**given).applied(to, after(5))


def field_of(refused: pytest.ExceptionInfo[Invalid]) -> str:
    return str(refused.value.extra["errors"][0]["field"])


@pytest.mark.parametrize(
    "given", [{"replicas": 4}, {"replicas": 0}, {"memory": 257 * MIB}, {"memory": "63m"}], ids=lambda given: str(given)
)
def test_what_is_out_of_the_manifests_bounds_is_refused_by_field(given: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        patch(**given).check_bounds(MANIFEST)
    assert [field_of(refused)] == list(given)


def test_a_wish_on_the_bounds_is_fine() -> None:
    patch(replicas=3, memory=256 * MIB).check_bounds(MANIFEST)


def test_what_is_not_given_stays() -> None:
    assert applied() == BEFORE
    assert applied(memory="128m") == BEFORE.model_copy(update={"memory": 128 * MIB})
    other = applied(secrets={"OTHER": "new"})
    assert (other.replicas, other.variables, other.secrets["HIDDEN"]) == (2, {"SHOWN": "yes"}, BEFORE.secrets["HIDDEN"])


def test_a_secret_has_the_time_when_it_was_last_set() -> None:
    assert applied(secrets={"HIDDEN": "new"}).secrets == {
        "HIDDEN": SecretOverride(value=SecretStr("new"), set_at=after(5))
    }


def test_null_removes_only_what_it_is_said_of() -> None:
    assert applied(variables={"SHOWN": None, "HIDDEN": None}).all_variables() == {"HIDDEN": "old"}
    assert applied(secrets={"SHOWN": None, "HIDDEN": None}).all_variables() == {"SHOWN": "yes"}


def test_a_name_is_moved_by_setting_it_as_the_other() -> None:
    shown = applied(variables={"HIDDEN": "new"})
    assert (shown.variables, shown.secrets) == ({"SHOWN": "yes", "HIDDEN": "new"}, {})
    hidden = applied(secrets={"SHOWN": "no"}, variables={"SHOWN": None})
    assert (hidden.variables, hidden.all_variables()) == ({}, {"HIDDEN": "old", "SHOWN": "no"})


@pytest.mark.parametrize("kind", ["variables", "secrets"])
@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("1X", "hush", "is not a name"),
        ("", "hush", "is not a name"),
        ("A=B", "hush", "is not a name"),
        ("PORT", "hush", "is set by the platform"),
        ("SLIPWAY_TOKEN", "hush", "is set by the platform"),
        ("A", "hush\0", "NUL"),
        ("A", "hush\ud800", "surrogate"),
        ("A", "hush" + VALUE_BYTES * "x", "bytes, at most 65536"),
        ("A", "hush" + VALUE_BYTES // 2 * "ü", "bytes, at most 65536"),
    ],
)
def test_what_no_environment_can_hold_is_refused_without_its_value(kind: str, name: str, value: str, why: str) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        applied(BEFORE, **{kind: {name: value}})
    assert field_of(refused) == f"{kind}.{name}"
    assert "hush" not in str(refused.value.document())


def test_a_name_is_not_both_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        applied(variables={"A": "a"}, secrets={"A": "b"})
    assert field_of(refused) == "secrets.A"


def test_all_together_have_a_limit_too() -> None:
    largest = VALUE_BYTES * "x"
    full = applied(Override(), variables={f"V{n}": largest for n in range(2)}, secrets={"S": largest})
    for kind in ("variables", "secrets"):
        with pytest.raises(Invalid, match=re.escape(f"at most {ALL_BYTES}")) as refused:
            applied(full, **{kind: {"LAST": largest}})
        assert field_of(refused) == kind
    room = ALL_BYTES - 3 * VALUE_BYTES - len("V0V1SLAST")
    over = applied(full, secrets={"LAST": room * "x"})
    assert applied(over, variables={"V0": None}, replicas=1).replicas == 1
    with pytest.raises(Invalid):
        applied(full, secrets={"LAST": (room + 1) * "x"})


def test_a_value_that_is_lost_stays_until_it_is_set_again_or_removed() -> None:
    lost = {"V": Locked(sealed="x"), "S": Locked(sealed="x", set_at=T0)}
    before = Override(locked=lost, configuration="before")
    assert applied(before, variables={"S": None}, secrets={"V": None}, replicas=2).locked == lost
    assert applied(before, variables={"V": None}, secrets={"S": None}).locked == {}
    again = applied(before, variables={"V": "v"}, secrets={"S": "s"})
    assert (again.locked, again.all_variables(), again.problem) == ({}, {"V": "v", "S": "s"}, "")
    assert applied(before, secrets={"V": "v"}).locked == {"S": lost["S"]}


def test_a_wish_shows_no_value() -> None:
    given = patch(variables={"A": "hush"}, secrets={"B": "hush"})
    assert "hush" not in repr(given)


def test_an_app_with_a_volume_cannot_be_scaled_and_is_told_why() -> None:
    with pytest.raises(Invalid, match="an app with a volume runs as one instance"):
        patch(replicas=2).check_bounds(with_volume())
    patch(replicas=1).check_bounds(with_volume())
