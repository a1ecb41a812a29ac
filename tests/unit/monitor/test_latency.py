"""Quantiles from buckets, by interpolation."""

import pytest

from services.monitor.latency import NOTHING, Buckets, quantile_ms, quantiles_ms, since

LE_MS = (10.0, 20.0, 100.0, None)


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ((100, 100, 100, 100), 0.5, 5.0),
        ((100, 100, 100, 100), 0.99, 9.9),
        ((0, 100, 100, 100), 0.5, 15.0),
        ((50, 90, 100, 100), 0.95, 60.0),
        ((50, 90, 100, 100), 0.9, 20.0),
        ((50, 50, 50, 100), 0.95, 100.0),  # above the last bound
        ((1, 1, 1, 1), 0.95, 9.5),
        ((0, 0, 0, 0), 0.95, None),
    ],
)
def test_a_quantile(counts: tuple[int, ...], share: float, expected: float | None) -> None:
    assert quantile_ms(Buckets(LE_MS, counts), share) == expected


def test_without_buckets_there_is_no_quantile() -> None:
    assert quantiles_ms(NOTHING, (0.5, 0.99)) == [None, None]


def test_what_was_counted_between_two_looks() -> None:
    before, now = Buckets(LE_MS, (1, 2, 3, 4)), Buckets(LE_MS, (1, 12, 23, 34))
    assert since(before, now).counts == (0, 10, 20, 30)
    assert since(NOTHING, now) == now
    assert since(Buckets((None,), (0,)), now) == now  # before Envoy had told its bounds
