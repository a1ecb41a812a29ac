"""The rule that tells which images are removed from an engine never names one that is needed."""

from datetime import UTC, datetime

import pytest

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OLD, NEW, NEVER = "2026-01-01T10:59:59.123456789Z", "2026-01-01T11:00:01Z", "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("tags", "created", "tagged", "is_unneeded"),
    [
        (["slipway/notes:one-a"], OLD, NEVER, True),
        (["slipway/notes:one-a"], OLD, OLD, True),
        (["slipway/notes:one-a", "slipway/notes:one-b"], OLD, OLD, True),
        ([], OLD, NEVER, True),
        (None, OLD, None, True),
        ([], NEW, NEVER, False),
        (["slipway/notes:one-a"], OLD, NEW, False),
        (["slipway/notes:one-a", "mine:1"], OLD, OLD, False),
    ],
)
def test_an_old_image_of_ours_is_waste_unless_somebody_named_it(
    tags: list[str] | None, created: str, tagged: str | None, is_unneeded: bool
) -> None:
    from services.deployer.drivers.docker import images

    image = {"Id": "sha256:1", "RepoTags": tags, "Created": created, "Metadata": {"LastTagTime": tagged}}
    assert images.is_unneeded(image, NOW) is is_unneeded
