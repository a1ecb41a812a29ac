"""The manifest's `canary`: what is read, what is refused and with which words, and how it is stored."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.canary import Canary, CanaryStep
from shared.manifest import Manifest
from shared.proxy_models import RolloutRequest

STEPS = [{"weight": 5, "for": "2m"}, {"weight": 33, "for": "1h", "pause": True}, {"weight": 60, "pause": True}]


def test_a_canary_without_steps_is_one_step() -> None:
    assert Canary().plan() == [CanaryStep(weight=33, lasts=600)]
    assert Canary.model_validate({"weight": 10, "for": "30s"}).plan() == [CanaryStep(weight=10, lasts=30)]


def test_steps_are_read() -> None:
    canary = Canary.model_validate({"steps": STEPS, "promote": "automatic", "mirror": 5, "override": "CANARY_KEY"})
    assert [(step.weight, step.lasts, step.pause) for step in canary.plan()] == [
        (5, 120, False),
        (33, 3600, True),
        (60, None, True),
    ]


@pytest.mark.parametrize(
    ("canary", "message"),
    [
        ({"for": "2 minutes"}, "'2 minutes' is not a duration; write it like 30s, 2m, 1h or 1d"),
        ({"for": "5s"}, "is 5 s; a step lasts from 10s to 7d"),
        ({"for": "8d"}, "is 691200 s; a step lasts from 10s to 7d"),
        ({"for": True}, "is 1 s; a step lasts from 10s to 7d"),
        ({"weight": 101}, "less than or equal to 100"),
        ({"steps": [{"weight": 5}]}, "add `for`, like 2m, or `pause: true`"),
        ({"steps": [{"for": "2m"}]}, "Field required"),
        ({"steps": STEPS, "weight": 5}, "remove these, or the steps"),
        ({"steps": STEPS, "for": "5m"}, "remove these, or the steps"),
        ({"steps": STEPS * 7}, "at most 20 items"),
        ({"promote": "yes"}, "'by-hand' or 'automatic'"),
        ({"override": "my key"}, "should match pattern"),
    ],
)
def test_a_fault_says_the_remedy(canary: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Manifest.model_validate({"app": "notes", "canary": canary})
    assert message in str(caught.value)


@pytest.mark.parametrize("canary", [{"weight": 10, "for": "30s"}, {"steps": STEPS, "promote": "automatic"}, {}])
def test_a_stored_manifest_is_read_again(canary: dict[str, Any]) -> None:
    manifest = Manifest.model_validate({"app": "notes", "canary": canary})
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    sent = RolloutRequest(release="notes-r1", canary=manifest.canary).model_dump()
    assert RolloutRequest.model_validate(sent).canary == manifest.canary


def test_a_manifest_of_an_earlier_version_has_a_weight_alone() -> None:
    assert Manifest.model_validate_json('{"app": "notes", "canary": {"weight": 20}}').canary.plan() == [
        CanaryStep(weight=20, lasts=600)
    ]


def test_a_duration_is_sent_under_the_name_that_the_manifest_has() -> None:
    assert CanaryStep(weight=5, lasts=120).model_dump(mode="json") == {"weight": 5, "for": 120, "pause": False}


def test_the_key_does_not_stand_in_a_log() -> None:
    assert "s3cret" not in repr(RolloutRequest(release="notes-r1", override_key="s3cret"))
