"""Wishes within the manifest's bounds, and what an app is told."""

import pytest

from services.deployer.environment import (
    AppFacts,
    Override,
    Place,
    check_override,
    configuration,
    desired,
)
from shared.errors import Invalid
from shared.manifest import MIB
from shared.models import Environment
from tests.unit.deployer.fakes import a_manifest, with_volume

MANIFEST = a_manifest(memory="64m", max_memory="256m", replicas=1, max_replicas=3)
RESOURCES = MANIFEST.resources


def test_without_wishes_the_manifest_says() -> None:
    wanted = desired(Override(), RESOURCES)
    assert (wanted.replicas, wanted.memory, wanted.variables) == (1, 64 * MIB, {})


def test_a_wish_is_held_within_the_bounds_of_the_manifest_that_is_to_run() -> None:
    wanted = desired(Override(replicas=9, memory=16 * MIB), RESOURCES)
    assert (wanted.replicas, wanted.memory) == (3, 64 * MIB)


@pytest.mark.parametrize(
    ("override", "field"),
    [
        (Override(replicas=4), "replicas"),
        (Override(replicas=0), "replicas"),
        (Override(memory=257 * MIB), "memory"),
        (Override(memory=63 * MIB), "memory"),
        (Override(variables={"1X": "a"}), "variables.1X"),
        (Override(variables={"PORT": "1"}), "variables.PORT"),
        (Override(variables={"SLIPWAY_TOKEN": "1"}), "variables.SLIPWAY_TOKEN"),
        (Override(variables={"A": "\0"}), "variables.A"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_field(override: Override, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_override(override, MANIFEST)
    assert refused.value.extra["errors"][0]["field"] == field


def test_a_wish_on_the_bounds_is_fine() -> None:
    check_override(Override(replicas=3, memory=256 * MIB, variables={"GREETING": "hello"}), MANIFEST)


def test_an_app_with_a_volume_cannot_be_scaled_and_is_told_why() -> None:
    with pytest.raises(Invalid, match="an app with a volume runs as one instance"):
        check_override(Override(replicas=2), with_volume())
    check_override(Override(replicas=1), with_volume())


def test_what_can_change_while_an_instance_runs_is_not_part_of_its_configuration() -> None:
    wanted = desired(Override(), RESOURCES)
    assert configuration(wanted) == configuration(desired(Override(replicas=2), RESOURCES))
    assert configuration(wanted) == configuration(desired(Override(memory=128 * MIB), RESOURCES))
    assert configuration(wanted) != configuration(desired(Override(variables={"A": "b"}), RESOURCES))


def test_an_app_is_told_its_facts_and_they_are_not_shown_in_logs() -> None:
    facts = AppFacts("http://flags", "redis://app:hidden@x/0", {Environment.CANARY: "canary.hidden"})
    told = facts.environment_of(Place("notes", Environment.CANARY), "notes-r1", "c0ffee", {"A": "b"})
    assert told == {
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
