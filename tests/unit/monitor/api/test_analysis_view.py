"""Figures of the page about an analysis, as people read them."""

import pytest

from services.monitor.api.analysis_view import amount, errors_of
from services.monitor.evidence.analysis_record import StepCounts
from shared.models import Track


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "points", "-"),
        (0.416, "points", "0.42 points"),
        (12.4, "%", "12 %"),
        (102.4, "points", "100 points"),
        (250.0, "%", "250 %"),
    ],
)
def test_a_harm_has_no_exponent_and_no_more_points_than_there_are(value: float | None, unit: str, text: str) -> None:
    assert amount(value, unit) == text


@pytest.mark.parametrize(("errors", "text"), [(5, "5 of 5 (100 %)"), (1, "1 of 5 (20 %)"), (0, "0 of 5 (0 %)")])
def test_all_of_all_is_100_percent(errors: int, text: str) -> None:
    assert errors_of({Track.CANARY: StepCounts(requests=5, errors=errors)}, Track.CANARY) == text
