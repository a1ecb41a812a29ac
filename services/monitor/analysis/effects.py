"""Computes how large a harm is, over the whole rollout or its newest part."""

from collections.abc import Callable
from dataclasses import dataclass

from services.monitor.analysis.comparison import MantelHaenszel
from services.monitor.analysis.lanes.histogram import Buckets
from services.monitor.analysis.lanes.margins import LaneName
from services.monitor.analysis.sections import Section
from shared.models import Track

NEEDED = {"p50": (0.5, 20), "p90": (0.9, 50), "p99": (0.99, 500)}
"""Quantiles, and the requests that each track needs for them."""
NEWEST_COUNTS = 0.5
"""Part that the newest harm counts for, so that harm that began late counts without waiting for it to prevail."""


@dataclass(frozen=True)
class Quantile:
    """Holds a quantile of both tracks' latencies."""

    name: str
    canary_ms: float
    stable_ms: float

    @property
    def slow_down(self) -> float:
        return self.canary_ms / self.stable_ms - 1


@dataclass(frozen=True)
class Effect:
    """Holds a measured harm. `value` is a difference of shares or a slow-down, measured over `section`."""

    value: float
    section: Section
    newest: bool
    quantile: Quantile | None = None


def quantiles(section: Section, buckets: Buckets) -> list[Quantile]:
    """Returns the quantiles for which both tracks have enough requests."""
    latency, found = section.latency, []
    for name, (share, needed) in NEEDED.items():
        if latency is not None and min(latency.canary_of, latency.stable_of) >= needed:
            canary, stable = buckets.quantile(latency.canary, share), buckets.quantile(latency.stable, share)
            if canary is not None and stable is not None:
                found.append(Quantile(name, canary, stable))
    return found


def effects(whole: Section, newest: Section, buckets: Buckets) -> dict[LaneName, Effect | None]:
    """Returns the harm that each lane is about: the whole rollout's or half of the newest, whichever is larger; None if
    too little is known.
    """
    errors = _difference(whole, newest, lambda section: section.tests.errors)
    slow_down = _slow_down(whole, newest, buckets)
    return {
        "errors": errors,
        "gross errors": errors,
        "outage": Effect(_outage(newest), newest, newest=True),
        "client errors": _difference(whole, newest, lambda section: section.tests.client_errors),
        "latency": slow_down,
        "gross latency": slow_down,
    }


def _difference(whole: Section, newest: Section, of: Callable[[Section], MantelHaenszel]) -> Effect | None:
    return _larger(
        _effect(of(whole).difference(), whole, newest=False), _effect(of(newest).difference(), newest, newest=True)
    )


def _outage(newest: Section) -> float:
    """Returns by how much the canary's share of errors exceeds production's, which counts as 0 without requests."""
    total = newest.total
    shares = {
        track: sums.errors / sums.requests if sums.requests else 0.0
        for track, sums in ((Track.CANARY, total.canary), (Track.STABLE, total.stable))
    }
    return shares[Track.CANARY] - shares[Track.STABLE]


def _slow_down(whole: Section, newest: Section, buckets: Buckets) -> Effect | None:
    found = []
    for section in (whole, newest):
        worst = max(quantiles(section, buckets), key=lambda each: each.slow_down, default=None)
        found.append(_effect(worst.slow_down if worst else None, section, section is newest, worst))
    return _larger(*found)


def _effect(value: float | None, section: Section, newest: bool, quantile: Quantile | None = None) -> Effect | None:
    if value is None:
        return None
    return Effect(value * NEWEST_COUNTS if newest else value, section, newest, quantile)


def _larger(whole: Effect | None, newest: Effect | None) -> Effect | None:
    if whole is None or newest is None:
        return whole or newest
    return newest if newest.value > whole.value else whole
