"""The data that crosses a service's border."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from shared.clock import Time
from shared.models import Environment, EnvironmentName, Model, ReleaseRequest, release_number


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


class Body(Model):
    number: int = 1
    share: float = 1
    switched: bool = True
    at: Time | None = None
    environment: EnvironmentName | None = None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("number", each) for each in ("5", True, 5.5, None)],
        *[("share", each) for each in ("0.5", True)],
        *[("switched", each) for each in (1, 0, "true", "yes")],
        *[("at", each) for each in (0, 1.5, "0", "1767225600", "2026-01-01", "2026-01-01T00:00:00", True)],
        *[("environment", each) for each in (1, "stable", ["canary"])],
    ],
)
def test_a_body_takes_no_value_of_another_json_type(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Body.model_validate({field: value})
    assert [each["loc"] for each in refused.value.errors()] == [(field,)]


def test_a_body_takes_what_its_schema_says() -> None:
    given = {"number": 5.0, "share": 2, "switched": False, "at": "2026-01-31T00:00:00Z", "environment": "canary"}
    whole = Body(
        number=5, share=2.0, switched=False, at=datetime(2026, 1, 31, tzinfo=UTC), environment=Environment.CANARY
    )
    assert Body.model_validate(given) == whole
    assert Body.model_validate_json(whole.model_dump_json()) == whole, "as it is stored"
