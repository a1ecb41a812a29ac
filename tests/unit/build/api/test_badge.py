from xml.etree.ElementTree import fromstring

import pytest

from services.build.api.badge import badge
from services.build.builds.build import Build
from shared.models import BuildState
from tests.support.build.builds import build


@pytest.mark.parametrize(
    ("last", "word"),
    [
        (None, "unknown"),
        (build(state=BuildState.SUCCESS, untested=False), "passing"),
        (build(state=BuildState.SUCCESS, untested=True), "passing, untested"),
        (build(state=BuildState.FAILURE), "failing"),
        (build(state=BuildState.ERROR), "error"),
    ],
)
def test_the_badge_says_it(last: Build | None, word: str) -> None:
    assert fromstring(badge(last)).get("aria-label") == f"build: {word}"
