import pytest

from shared.proxy_models import LatencyHistogram, quantile_ms


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([100, 100, 100, 100], 0.5, 5.0),  # the middle of the first bucket
        ([100, 100, 100, 100], 0.99, 9.9),
        ([50, 100, 100, 100], 0.5, 10.0),  # its upper bound
        ([0, 100, 100, 100], 0.5, 15.0),
        ([50, 90, 100, 100], 0.95, 60.0),
        ([50, 90, 100, 100], 0.9, 20.0),
        ([50, 50, 50, 100], 0.95, 100.0),  # above every bound: the last one
        ([1, 1, 1, 1], 0.95, 9.5),
        ([0, 0, 0, 0], 0.95, None),
        ([], 0.5, None),
    ],
)
def test_quantiles_are_interpolated_in_their_bucket(counts: list[int], share: float, expected: float | None) -> None:
    le_ms: list[float | None] = [10, 20, 100, None]
    assert quantile_ms(LatencyHistogram(le_ms=le_ms[: len(counts)], counts=counts), share) == expected


def test_a_quantile_is_rounded() -> None:
    histogram = LatencyHistogram(le_ms=[1, 10, None], counts=[50, 100, 100])
    assert [quantile_ms(histogram, 0.9537), quantile_ms(histogram, 0.9537, digits=1)] == [9.167, 9.2]
