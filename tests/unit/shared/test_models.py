"""The data that crosses a service's border."""

import pytest

from shared.models import release_number


@pytest.mark.parametrize(("release", "number"), [("notes-r9", 9), ("a-r2-r10", 10), ("notes", 0), ("notes-rx", 0)])
def test_releases_are_ordered_by_number(release: str, number: int) -> None:
    assert release_number(release) == number
