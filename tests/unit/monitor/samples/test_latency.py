"""Shares of slow requests, and what was counted between two looks."""

import pytest

from services.monitor.samples.latency import excess_z, share_above, since
from shared.proxy_models import LatencyHistogram


def timed(*counts: int) -> LatencyHistogram:
    return LatencyHistogram(le_ms=[10, 20, 100, None], counts=[*counts])


@pytest.mark.parametrize(
    ("limit_ms", "share"), [(0, 1.0), (5, 0.75), (10, 0.5), (15, 0.3), (20, 0.1), (60, 0.05), (100, 0.0), (999, 0.0)]
)
def test_the_share_of_slower_requests(limit_ms: float, share: float) -> None:
    assert share_above(timed(50, 90, 100, 100), limit_ms) == pytest.approx(share)


def test_how_surely_one_share_is_larger() -> None:
    assert excess_z(0.25, 200, 0.04, 200) == pytest.approx(5.97, abs=0.01)
    assert excess_z(0.04, 200, 0.25, 200) == pytest.approx(-5.97, abs=0.01)
    assert [excess_z(share, 100, share, 200) for share in (0.0, 1.0)] == [0, 0]


def test_what_was_counted_between_two_looks() -> None:
    before, now = timed(1, 2, 3, 4), timed(1, 12, 23, 34)
    assert since(before, now).counts == [0, 10, 20, 30]
    assert since(LatencyHistogram(le_ms=[], counts=[]), now) == now
    assert since(LatencyHistogram(le_ms=[None], counts=[0]), now) == now  # before Envoy had told its bounds
