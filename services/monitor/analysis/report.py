"""Makes the verdict about a canary from all that its judge knows."""

import math
from collections.abc import Mapping

from services.monitor.analysis.bounds import share_bound, slow_down_bound
from services.monitor.analysis.effects import Effect, effects, quantiles
from services.monitor.analysis.explanation import failed_because, open_because, passed_because
from services.monitor.analysis.lanes.histogram import Buckets
from services.monitor.analysis.lanes.margins import LaneName, Margins
from services.monitor.analysis.sections import ReweightedLatency, Section, Sections
from services.monitor.analysis.state import JudgeState
from services.monitor.analysis.verdict import CanaryVerdict, Harm
from shared.models import Track
from shared.proxy_models import VerdictResult

LATENCY: tuple[LaneName, ...] = ("latency", "gross latency")
BOUNDED_AT = (0.5, 0.9)
ALMOST = 0.99
"""Largest progress towards certainty of harm, from 0 to 1, that the score counts while the canary has not failed."""


def report(
    state: JudgeState, margins: Margins, buckets: Buckets, failure: tuple[LaneName, Effect] | None = None
) -> CanaryVerdict:
    """Returns the verdict: `fail` if `failure` names a kind of harm with its size; else `pass` if harm is ruled out;
    else `inconclusive`.
    """
    sections = Sections.of(state.strata)
    whole = sections.whole
    found = effects(sections, buckets, margins.least_ms)
    bounds = _bounds(whole, buckets, margins, state.visitors.design_effect)
    if failure:
        found[failure[0]] = failure[1]
    harms = [_harm(name, margins, found[name], bounds[name], lane.capital) for name, lane in state.lanes.items()]
    against = _doubts(state, margins, found)
    total = whole.total
    if failure:
        result, reason = VerdictResult.FAIL, failed_because(*failure)
    elif _passes(total.canary.requests, against, bounds, margins):
        result, reason = VerdictResult.PASS, passed_because(total, margins, bounds["errors"], bounds["latency"])
    else:
        result, reason = VerdictResult.INCONCLUSIVE, open_because(state, margins, sections, bounds, against)
    return CanaryVerdict(
        result=result,
        score=0 if failure else _score(against, bounds, margins),
        reason=reason,
        harms=harms,
        seconds=state.at_s,
        requests={Track.CANARY: total.canary.requests, Track.STABLE: total.stable.requests},
        errors={Track.CANARY: total.canary.errors, Track.STABLE: total.stable.errors},
        client_errors={Track.CANARY: total.canary.client_errors, Track.STABLE: total.stable.client_errors},
        visitors={track: counter.total for track, counter in state.visitors.seen.items()},
        failing_visitors={track: counter.total for track, counter in state.visitors.failing.items()},
        latency_ms=_latency_ms(whole, buckets),
    )


def _doubts(state: JudgeState, margins: Margins, found: Mapping[LaneName, Effect | None]) -> dict[LaneName, float]:
    """Returns kind of harm → the evidence for it (the capital of its lane); 0 if the harm is too small to abort,
    however certain it is.
    """
    return {
        name: 0.0 if effect and effect.value < margins.of(name).harm else state.lanes[name].capital
        for name, effect in found.items()
    }


def _bounds(section: Section, buckets: Buckets, margins: Margins, design_effect: float) -> dict[LaneName, float | None]:
    errors, client, latency = section.errors, section.client_errors, section.latency
    slow_downs = [_slow_down_bound(latency, share, buckets, margins, design_effect) for share in BOUNDED_AT]
    slow_down = None if None in slow_downs else max(each for each in slow_downs if each is not None)
    more_errors = share_bound(errors) if errors else None
    return {
        "errors": more_errors,
        "gross errors": more_errors,
        "outage": None,
        "client errors": share_bound(client) if client else None,
        "latency": slow_down,
        "gross latency": slow_down,
    }


def _slow_down_bound(
    latency: ReweightedLatency | None, share: float, buckets: Buckets, margins: Margins, design_effect: float
) -> float | None:
    """Returns the upper bound of the canary's slow-down at the quantile `share`, as a fraction; None if it is not
    known. If the bound is at most `least_ms` in milliseconds, the fraction is lowered to one with which the canary
    passes.
    """
    bound = slow_down_bound(latency, share, buckets, design_effect) if latency else None
    stable = buckets.quantile(latency.stable, share) if latency else None
    if bound is not None and stable is not None and bound * stable <= margins.least_ms:
        return min(bound, margins.passes_below_latency)
    return bound


def _harm(name: LaneName, margins: Margins, effect: Effect | None, bound: float | None, capital: float) -> Harm:
    return Harm(
        name=name,
        capital=capital,
        effect=None if effect is None else 100 * effect.value,
        margin=100 * margins.of(name).harm,
        bound=None if bound is None else 100 * bound,
        unit="%" if name in LATENCY else "points",
    )


def _passes(
    requests: int, against: Mapping[LaneName, float], bounds: dict[LaneName, float | None], margins: Margins
) -> bool:
    errors, latency = bounds["errors"], bounds["latency"]
    if errors is None or latency is None or requests < margins.passes_from or max(against.values()) >= margins.doubt:
        return False
    return errors <= margins.passes_below_errors and latency <= margins.passes_below_latency


def _score(against: Mapping[LaneName, float], bounds: dict[LaneName, float | None], margins: Margins) -> int:
    """Returns 100 for a canary whose harm is ruled out, 50 while nothing is known, and less the more evidence there is
    against it.
    """
    known = min(math.log(max(1.0, *against.values())) / math.log(margins.certainty), ALMOST)
    ruled_out = min(
        _ruled_out(bounds["errors"], margins.passes_below_errors),
        _ruled_out(bounds["latency"], margins.passes_below_latency),
    )
    return round((1 - known) * (50 + 50 * ruled_out))


def _ruled_out(bound: float | None, allowed: float) -> float:
    if bound is None:
        return 0.0
    return 1.0 if bound <= allowed else allowed / bound


def _latency_ms(section: Section, buckets: Buckets) -> dict[Track, dict[str, float]]:
    found = quantiles(section, buckets)
    return {
        Track.CANARY: {each.name: round(each.canary_ms, 3) for each in found},
        Track.STABLE: {each.name: round(each.stable_ms, 3) for each in found},
    }
