"""Puts the verdict about a canary into a sentence for people."""

from collections.abc import Mapping

from services.monitor.analysis.effects import Effect
from services.monitor.analysis.lanes.margins import LaneName, Margins
from services.monitor.analysis.sections import Sections
from services.monitor.analysis.state import JudgeState
from services.monitor.analysis.strata import PairSums
from services.monitor.analysis.verdict import two_digits
from shared.models import Track


def failed_because(lane: LaneName, effect: Effect) -> str:
    """Returns the sentence about a canary that failed by the kind of harm `lane`, with the size of the harm."""
    total = effect.section.total
    when = effect.section.when
    if effect.quantile is not None:
        of = effect.quantile
        slower = f"{of.slow_down:.0%} slower".replace("%", " %")
        return (
            f"latency: {of.name} of the canary is {_ms(of.canary_ms)}, of production {_ms(of.stable_ms)}: {slower}"
            f"{when} ({_requests(sum(total.canary.latency))} to the canary)"
        )
    client = lane == "client errors"
    mine, others = (
        (total.canary.client_errors, total.stable.client_errors)
        if client
        else (total.canary.errors, total.stable.errors)
    )
    did = "were answered with 4xx" if client else "failed"
    return (
        f"{'client errors' if client else 'errors'}: {_of(mine, total.canary.requests)} to the canary {did}{when} "
        f"({_share(mine, total.canary.requests)}), {_production(others, total.stable.requests)}"
    )


def passed_because(total: PairSums, margins: Margins, errors: float | None, latency: float | None) -> str:
    """Returns the sentence about a canary that passed. `errors` and `latency` are the upper bounds of its harm, as
    fractions.
    """
    slower = f"{_percent(latency)} or {_ms(margins.least_ms)} slower"
    return (
        f"no harm in {_requests(total.canary.requests)} to the canary: with a confidence of 95 % at most "
        f"{_points(errors)} more errors than production, and at most {slower}"
    )


def open_because(
    state: JudgeState,
    margins: Margins,
    sections: Sections,
    bounds: Mapping[LaneName, float | None],
    against: Mapping[LaneName, float],
) -> str:
    """Returns the sentence about a canary that neither passed nor failed: it says what is still uncertain. `bounds`
    holds kind of harm → its upper bound. `against` holds kind of harm → the evidence for it, of which 100 is certain; 0
    if the harm is too small to abort.
    """
    total = sections.whole.total
    certain = [name for name, capital in against.items() if capital >= margins.certainty]
    for name in certain:
        if not state.visitors.enough(name, margins, sections.whole, sections.newest):
            failing, seen = state.visitors.failing[Track.CANARY].total, state.visitors.seen[Track.CANARY].total
            return (
                f"errors: {_of(total.canary.errors, total.canary.requests)} to the canary failed, but all are those of "
                f"{failing} of its {seen} visitors: it may be them and not the canary"
            )
    suspect = max(against, key=lambda name: against[name])
    if against[suspect] >= margins.doubt:
        return f"{suspect}: there are signs of harm, which are not certain yet"
    if total.canary.requests < margins.passes_from:
        return f"{_requests(total.canary.requests)} to the canary so far; it takes {margins.passes_from} to pass"
    errors, latency = bounds["errors"], bounds["latency"]
    if errors is None:
        return "production has had no requests to compare with"
    if errors > margins.passes_below_errors:
        allowed = _points(margins.passes_below_errors)
        return f"errors: up to {_points(errors)} more than production are not ruled out ({allowed} may remain)"
    if latency is None:
        return "latency: too few requests to compare"
    allowed = _percent(margins.passes_below_latency)
    return f"latency: up to {_percent(latency)} slower than production is not ruled out ({allowed} may remain)"


def _production(errors: int, of: int) -> str:
    return f"{errors} of {of} to production ({_share(errors, of)})" if of else "and production had no requests"


def _requests(count: int) -> str:
    return f"{count} request{'' if count == 1 else 's'}"


def _of(part: int, of: int) -> str:
    return f"{part} of {_requests(of)}"


def _share(part: int, of: int) -> str:
    return f"{100 * part / of:.1f} %" if of else "0.0 %"


def _points(share: float | None) -> str:
    return f"{two_digits(100 * max(share or 0.0, 0.0))} points"


def _percent(share: float | None) -> str:
    return f"{100 * max(share or 0.0, 0.0):.0f} %"


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 10 else f"{value:.2g} ms"
