"""The manifest's schema: what is refused, and that the message says what to do."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.manifest import Manifest, parse_size


@pytest.mark.parametrize(
    ("text", "size"), [("64m", 64 * 2**20), ("1g", 2**30), ("65536k", 2**26), ("5000000", 5_000_000)]
)
def test_sizes_are_binary(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"branches": {"release": "canary"}}, "branches"),
        ({"gates": {"coverage": float("nan")}}, "finite"),
        ({"gates": {"coverage": 101}}, "less than or equal to 100"),
        ({"gates": {"coverge": 1}}, "coverge"),
        ({"resources": {"memory": "64 megs"}}, "write it like 64m"),
        ({"resources": {"memory": "1g", "max_memory": "512m"}}, "raise max_memory or lower memory"),
        ({"steps": [{"name": "x", "commands": ["true"], "stage": "deploy"}]}, "platform's own stage"),
        ({"steps": [{"name": "x", "commands": ["true"]}] * 2}, "two steps are named x"),
        ({"steps": [{"name": "x", "commands": ["true"], "reports": {"junit": "../old.xml"}}]}, "inside the repository"),
        ({"run": {"health": "up"}}, "health"),
        ({"hosts": ["Not A Host"]}, "hosts"),
    ],
)
def test_what_is_wrong_is_refused_with_its_field_or_remedy(part: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Manifest.model_validate({"app": "notes", **part})


def test_what_is_not_said_has_the_documented_defaults() -> None:
    manifest = Manifest.model_validate({"app": "notes"})
    assert (manifest.resources.memory, manifest.resources.max_memory) == (64 * 2**20, 512 * 2**20)
    assert (manifest.canary.weight, manifest.run.health, manifest.resources.replicas) == (33, "/up", 1)
