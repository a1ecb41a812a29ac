"""Computes how much worse than production a canary was, over the whole rollout or its newest part."""

from dataclasses import dataclass, replace

from services.monitor.analysis.lanes.histogram import Buckets
from services.monitor.analysis.lanes.margins import LaneName
from services.monitor.analysis.sections import Section, Sections

NEEDED = {"p50": (0.5, 20), "p90": (0.9, 50), "p99": (0.99, 500)}
"""Name of a quantile → its share, and the number of requests that each track needs for it."""
NEWEST_COUNTS = 0.5
"""Factor for the harm that was measured over the last 2 minutes, before it is compared with that of the whole rollout.
Harm that began late thus counts before it prevails.
"""


@dataclass(frozen=True)
class Quantile:
    """Holds one quantile, such as `p90`, of the canary's and production's latencies."""

    name: str
    canary_ms: float
    stable_ms: float

    @property
    def slow_down(self) -> float:
        return self.canary_ms / self.stable_ms - 1

    def harm(self, least_ms: float) -> float:
        """Returns the slow-down as a fraction, 0.25 for 25 %; at most 0 if the canary is not `least_ms` slower."""
        return self.slow_down if self.canary_ms - self.stable_ms >= least_ms else min(self.slow_down, 0.0)


@dataclass(frozen=True)
class Effect:
    """Holds a measured harm as a fraction: by how much the canary's share of errors exceeds production's, or by how
    much it is slower at `quantile`. `section` is the part of the rollout over which it was measured.
    """

    value: float
    section: Section
    quantile: Quantile | None = None


def quantiles(section: Section, buckets: Buckets) -> list[Quantile]:
    """Returns p50, p90 and p99 of both tracks (production and canary), but only those for which both have enough
    requests.
    """
    latency, found = section.latency, []
    for name, (share, needed) in NEEDED.items():
        if latency is not None and min(latency.canary_of, latency.stable_of) >= needed:
            canary, stable = buckets.quantile(latency.canary, share), buckets.quantile(latency.stable, share)
            if canary is not None and stable is not None:
                found.append(Quantile(name, canary, stable))
    return found


def effects(sections: Sections, buckets: Buckets, least_ms: float) -> dict[LaneName, Effect | None]:
    """Returns kind of harm → how large it is; None if too little is known. It is measured over the whole rollout, and
    over the last 2 minutes, where half of it counts; the larger value is returned. For gross harm, a third value,
    measured over the last 20 to 40 s, is compared too; an outage is measured only over these. A slow-down of less than
    `least_ms` counts as 0.
    """
    errors = [_errors(each) for each in (sections.whole, sections.newest, sections.latest)]
    latency = [slow_down(each, buckets, least_ms) for each in (sections.whole, sections.newest, sections.latest)]
    client = [_client_errors(each) for each in (sections.whole, sections.newest)]
    return {
        "errors": _largest(*errors[:2]),
        "gross errors": _largest(*errors),
        "outage": _outage(sections.latest),
        "client errors": _largest(*client),
        "latency": _largest(*latency[:2]),
        "gross latency": _largest(*latency),
    }


def _errors(section: Section) -> Effect | None:
    difference = section.tests.errors.difference()
    return None if difference is None else Effect(difference, section)


def _client_errors(section: Section) -> Effect | None:
    difference = section.tests.client_errors.difference()
    return None if difference is None else Effect(difference, section)


def slow_down(section: Section, buckets: Buckets, least_ms: float) -> Effect | None:
    """Returns the largest slow-down among p50, p90 and p99; None if there are too few requests for each of them. A
    slow-down of less than `least_ms` counts as 0.
    """
    worst = max(quantiles(section, buckets), key=lambda each: each.harm(least_ms), default=None)
    return Effect(worst.harm(least_ms), section, worst) if worst else None


def _outage(section: Section) -> Effect:
    """Returns by how much the canary's share of errors exceeds production's. Without requests, a share counts as 0."""
    total = section.total
    mine, other = (each.errors / each.requests if each.requests else 0.0 for each in (total.canary, total.stable))
    return Effect(mine - other, section)


def _largest(whole: Effect | None, newest: Effect | None, latest: Effect | None = None) -> Effect | None:
    half = newest and replace(newest, value=newest.value * NEWEST_COUNTS)
    return max((each for each in (whole, half, latest) if each), key=lambda each: each.value, default=None)
