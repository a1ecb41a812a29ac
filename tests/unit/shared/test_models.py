"""The data that crosses a service's border."""

import pytest
from pydantic import ValidationError

from shared.models import ReleaseRequest, release_number


@pytest.mark.parametrize(
    ("release", "number"),
    [("notes-r9", 9), ("a-r2-r10", 10), ("notes", 0), ("notes-rx", 0), ("notes-r" + "9" * 5000, 0)],
)
def test_releases_are_ordered_by_number(release: str, number: int) -> None:
    assert release_number(release) == number


@pytest.mark.parametrize(
    "build", ["../health", "..", "notes-1?a=b", "notes-1#a", "notes/1", "notes-1\n", "", "x" * 100]
)
def test_what_becomes_a_part_of_a_path_is_the_id_of_a_build(build: str) -> None:
    with pytest.raises(ValidationError):
        ReleaseRequest(build=build)
    assert ReleaseRequest(build="my-notes-17").build == "my-notes-17"
