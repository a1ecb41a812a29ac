"""Computes quantiles of latency histograms. Pure."""

from shared.proxy_models import LatencyHistogram


def quantile_ms(histogram: LatencyHistogram, share: float, digits: int = 3) -> float | None:
    """Returns the latency in milliseconds that `share` (above 0, at most 1) of the requests did not exceed; None if
    there are no requests. It assumes, as Prometheus' histogram_quantile does, that requests are evenly distributed
    within a bucket and that the first bucket begins at 0. Requests above the last finite bound count as that bound.
    """
    if histogram.total <= 0:
        return None
    rank = share * histogram.total
    low, below = 0.0, 0
    for bound, count in zip(histogram.le_ms, histogram.counts, strict=True):
        if bound is None:
            break
        if count >= rank:
            return round(low + (bound - low) * (rank - below) / (count - below), digits)
        low, below = bound, count
    return round(low, digits)
