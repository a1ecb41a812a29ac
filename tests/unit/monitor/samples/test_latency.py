"""Quantiles from buckets, by interpolation."""

import pytest

from services.monitor.samples.latency import NOTHING, Buckets, excess_z, quantile_ms, quantiles_ms, share_above, since

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


@pytest.mark.parametrize(
    ("limit_ms", "share"), [(0, 1.0), (5, 0.75), (10, 0.5), (15, 0.3), (20, 0.1), (60, 0.05), (100, 0.0), (999, 0.0)]
)
def test_the_share_of_slower_requests(limit_ms: float, share: float) -> None:
    assert share_above(Buckets(LE_MS, (50, 90, 100, 100)), limit_ms) == pytest.approx(share)


def test_how_surely_one_share_is_larger() -> None:
    assert excess_z(0.25, 200, 0.04, 200) == pytest.approx(5.97, abs=0.01)
    assert excess_z(0.04, 200, 0.25, 200) == pytest.approx(-5.97, abs=0.01)
    assert [excess_z(share, 100, share, 200) for share in (0.0, 1.0)] == [0, 0]


def test_without_buckets_there_is_no_quantile() -> None:
    assert quantiles_ms(NOTHING, (0.5, 0.99)) == [None, None]


def test_what_was_counted_between_two_looks() -> None:
    before, now = Buckets(LE_MS, (1, 2, 3, 4)), Buckets(LE_MS, (1, 12, 23, 34))
    assert since(before, now).counts == (0, 10, 20, 30)
    assert since(NOTHING, now) == now
    assert since(Buckets((None,), (0,)), now) == now  # before Envoy had told its bounds
