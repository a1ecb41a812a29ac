"""Lists what is simulated, and what is promised of it (decision 49)."""

from dataclasses import dataclass, replace
from enum import StrEnum

from bench.canary.sticky import Sticky
from bench.canary.traffic import COLD, Disturbance, Independent, Traffic

LATE_S = 400.0


class Promise(StrEnum):
    """Names what is promised of a case."""

    LEFT_ALONE = "left alone"
    """At most 1 % of the runs are aborted."""
    ABORTED = "aborted"
    """At most 1 % of the runs are not aborted."""
    NONE = "printed"
    """Nothing is promised; the figures are printed."""


@dataclass(frozen=True)
class SimulatedCase:
    """Names traffic that is simulated."""

    name: str
    traffic: Traffic
    promise: Promise
    median_s: float | None = None
    """Median of the time until the abort that is promised."""
    slow: bool = False
    """True if each of the canary's answers counts as a bad one, not only errors."""
    from_s: float = 0.0
    """Time at which the canary's harm begins."""


def _harmed(
    rate: float, errors: float = 0.0, slower: float = 1.0, sigma: float = 0.5, from_s: float = 0.0
) -> Independent:
    return Independent(rate, sigma=sigma, canary=(COLD, Disturbance(from_s, errors=errors, slower=slower)))


SAME_CODE = [
    SimulatedCase("100/s", Independent(100), Promise.LEFT_ALONE),
    SimulatedCase("10/s", Independent(10), Promise.LEFT_ALONE),
    SimulatedCase("1/s", Independent(1), Promise.LEFT_ALONE),
    SimulatedCase("100/s, no errors, sigma 1", Independent(100, errors=0, sigma=1), Promise.LEFT_ALONE),
    SimulatedCase("10/s, 1 % errors, sigma 1", Independent(10, errors=0.01, sigma=1), Promise.LEFT_ALONE),
    SimulatedCase("10/s, 5 % errors, 30 % 4xx", Independent(10, errors=0.05, client_errors=0.3), Promise.LEFT_ALONE),
    SimulatedCase("20/s, weight 5", Independent(20, errors=0.01, steps=((5, 600.0),)), Promise.LEFT_ALONE),
    SimulatedCase("10/s, weight 95", Independent(10, errors=0.01, steps=((95, 600.0),)), Promise.LEFT_ALONE),
    SimulatedCase(
        "20/s, weights 5, 33, 60, and both get worse with each",
        Independent(
            20,
            errors=0.002,
            steps=((5, 120.0), (33, 240.0), (60, 240.0)),
            both=(Disturbance(120.0, errors=0.02, slower=1.3), Disturbance(360.0, errors=0.03, slower=1.3)),
        ),
        Promise.LEFT_ALONE,
    ),
    SimulatedCase(
        "20/s, both swing by 60 %, half of it cached",
        Independent(20, errors=0.01, cached=0.5, swing=0.6),
        Promise.LEFT_ALONE,
    ),
]

BOTH_ILL = [
    SimulatedCase(
        "10/s, outage of both for 60 s",
        Independent(10, both=(Disturbance(200.0, 260.0, errors=1.0),)),
        Promise.LEFT_ALONE,
    ),
    SimulatedCase(
        "10/s, weight 95, a third fails on both for 60 s",
        Independent(10, steps=((95, 600.0),), both=(Disturbance(200.0, 260.0, errors=0.33),)),
        Promise.LEFT_ALONE,
    ),
    SimulatedCase(
        "1/s, outage of both from the first second on",
        Independent(1, both=(Disturbance(errors=1.0),)),
        Promise.LEFT_ALONE,
    ),
]

NOT_INDEPENDENT = [
    SimulatedCase("sticky visitors, 2 % of them broken", Sticky(), Promise.NONE),
    SimulatedCase("sticky visitors, 10 of them at a time", Sticky(visitors=10), Promise.NONE),
    SimulatedCase("10/s, a burst of 2 s on the canary alone", Independent(10, burst_s=2), Promise.NONE),
    SimulatedCase("10/s, a burst of 6 s on the canary alone", Independent(10, burst_s=6), Promise.NONE),
    SimulatedCase("100/s, a burst of 2 s on the canary alone", Independent(100, burst_s=2), Promise.NONE),
    SimulatedCase("20/s, latency of each track noisy by 5 %", Independent(20, noise=0.05), Promise.NONE),
    SimulatedCase("20/s, latency of each track noisy by 10 %", Independent(20, noise=0.1), Promise.NONE),
]

HARMS = [
    *(
        SimulatedCase(f"{rate:g}/s, +{100 * errors:g} % errors", _harmed(rate, errors), Promise.ABORTED, median_s)
        for rate, errors, median_s in (
            (100, 0.01, 120.0),
            (100, 0.05, 120.0),
            (100, 0.2, 120.0),
            (100, 0.9, 6.0),
            (10, 0.05, None),
            (10, 0.2, None),
            (10, 0.9, 10.0),
            (1, 0.2, None),
            (1, 0.9, None),
        )
    ),
    *(
        SimulatedCase(
            f"{rate:g}/s, latency x {slower:g} (sigma {sigma:g})",
            _harmed(rate, slower=slower, sigma=sigma),
            Promise.ABORTED,
            slow=True,
        )
        for rate, slower, sigma in (
            (100, 1.2, 0.5),
            (100, 1.5, 0.5),
            (100, 1.5, 1.0),
            (100, 2.0, 0.5),
            (10, 1.5, 0.5),
            (10, 1.5, 1.0),
            (10, 2.0, 0.5),
            (1, 2.0, 0.5),
            (1, 2.0, 1.0),
        )
    ),
    SimulatedCase("10/s, +5 % errors from 400 s on", _harmed(10, 0.05, from_s=LATE_S), Promise.ABORTED, from_s=LATE_S),
    SimulatedCase(
        "100/s, +2 % errors from 400 s on", _harmed(100, 0.02, from_s=LATE_S), Promise.ABORTED, from_s=LATE_S
    ),
    SimulatedCase("100/s, +1 % errors from 400 s on", _harmed(100, 0.01, from_s=LATE_S), Promise.NONE, from_s=LATE_S),
    SimulatedCase(
        "10/s, latency x 2 from 400 s on",
        _harmed(10, slower=2.0, from_s=LATE_S),
        Promise.ABORTED,
        slow=True,
        from_s=LATE_S,
    ),
    SimulatedCase("10/s, +1 % errors", _harmed(10, 0.01), Promise.NONE),
    SimulatedCase("10/s, latency x 1.2 (sigma 0.5)", _harmed(10, slower=1.2), Promise.NONE, slow=True),
    SimulatedCase("1/s, +5 % errors", _harmed(1, 0.05), Promise.NONE),
    SimulatedCase("100/s, 5 % errors and 5 % more", replace(_harmed(100, 0.05), errors=0.05), Promise.NONE),
]
