"""An environment has wanted values, and an instance gets the variables that follow from them."""

import pytest
from pydantic import SecretStr, ValidationError

from services.deployer.releases.environment import AppFacts, EnvironmentId, Locked, Override, SecretOverride, desired
from shared.manifest import MIB
from shared.models import Environment
from tests.support.deployer.fakes import T0, a_manifest

MANIFEST = a_manifest(memory="64m", max_memory="256m", replicas=1, max_replicas=3)
RESOURCES = MANIFEST.resources


def test_without_wishes_the_manifest_says() -> None:
    wanted = desired(Override(), RESOURCES)
    assert (wanted.replicas, wanted.memory, wanted.variables) == (1, 64 * MIB, {})


def test_a_wish_is_held_within_the_bounds_of_the_manifest_that_is_to_run() -> None:
    wanted = desired(Override(replicas=9, memory=16 * MIB), RESOURCES)
    assert (wanted.replicas, wanted.memory) == (3, 64 * MIB)


def test_what_nobody_is_to_see_is_in_no_repr_and_no_error() -> None:
    override = Override(
        variables={"A": "hidden"},
        secrets={"B": SecretOverride(value=SecretStr("hidden"), set_at=T0)},
        locked={"C": Locked(sealed="hidden")},
    )
    assert override.all_variables() == {"A": "hidden", "B": "hidden"}
    assert "hidden" not in repr(override) + repr(desired(override, RESOURCES))
    assert "hidden" not in override.model_copy(update={"variables": {}}).model_dump_json(exclude={"locked"})
    with pytest.raises(ValidationError) as wrong:
        Override.model_validate({"variables": {"A": ["hidden"]}})
    assert "hidden" not in str(wrong.value)


def test_a_value_that_cannot_be_decrypted_is_a_problem_that_names_the_remedy() -> None:
    assert Override(variables={"A": "b"}).problem == ""
    locked = Override(locked={"B": Locked(sealed="x"), "A": Locked(sealed="x", set_at=T0)})
    assert locked.problem == (
        "the values of A, B cannot be decrypted; restore <home>/key and restart the deployer, "
        "or set them again (or to null)"
    )


def test_an_app_is_told_its_facts_and_they_are_not_shown_in_logs() -> None:
    facts = AppFacts("http://flags", "redis://app:hidden@x/0", {Environment.CANARY: "canary.hidden"})
    variables = facts.environment_of(EnvironmentId("notes", Environment.CANARY), "notes-r1", "c0ffee", {"A": "b"})
    assert variables == {
        "A": "b",
        "SLIPWAY_APP": "notes",
        "SLIPWAY_ENVIRONMENT": "canary",
        "SLIPWAY_TRACK": "canary",
        "SLIPWAY_RELEASE": "notes-r1",
        "SLIPWAY_COMMIT": "c0ffee",
        "OFREP_ENDPOINT": "http://flags",
        "FLAGS_TOKEN": "canary.hidden",
        "REDIS_URL": "redis://app:hidden@x/0",
    }
    assert "hidden" not in repr(facts)
