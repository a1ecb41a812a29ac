"""Says in sentences what a canary analysis found, for messages. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from services.monitor.analysis.verdict import CanaryVerdict, Harm, two_digits
from shared.models import Track


def verdict_of(evidence: Mapping[str, Any]) -> CanaryVerdict | None:
    """Returns the canary analysis's verdict in `evidence`, which is an event's fields or the evidence of an abort; None
    if there is none.
    """
    seen = evidence.get("seen")
    for holder in (seen if isinstance(seen, dict) else {}, evidence):
        try:
            return CanaryVerdict.model_validate(holder.get("verdict"))
        except ValidationError:
            continue
    return None


def opened_at(fields: Mapping[str, Any]) -> datetime | None:
    """Returns when the rollout was opened, by an event's fields or an abort's evidence; None if they do not say."""
    seen = fields.get("seen")
    text = (seen if isinstance(seen, dict) else fields).get("opened_at")
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def found(verdict: CanaryVerdict, opened_at: datetime | None) -> list[str]:
    """Returns sentences: since when the canary had visitors, what was compared, and each harm that is too much."""
    begun = f", since {opened_at:%Y-%m-%d %H:%M:%S} UTC" if opened_at else ""
    sentences = [f"The canary had visitors for {lasted(verdict.seconds)}{begun}."]
    sentences += [f"{_seen(verdict, Track.CANARY, 'The canary')}; {_seen(verdict, Track.STABLE, 'production')}."]
    harms = {(harm.effect, harm.unit): harm for harm in reversed(verdict.harms) if (harm.effect or 0.0) >= harm.margin}
    if harms:  # one that counts by several margins is said once, by the first
        sentences.append("Measured over the same seconds: " + "; ".join(map(_harm, reversed(harms.values()))) + ".")
    if medians := _latency(verdict):
        sentences.append(medians)
    return sentences


def lasted(seconds: float) -> str:
    """Formats a duration for people: `45 s`, `4 min 10 s`, `3 h 5 min`, `2 d 3 h`."""
    for unit, length, smaller, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= length:
            whole, rest = divmod(int(seconds), length)
            return f"{whole} {unit}" + (f" {rest // part} {smaller}" if rest // part else "")
    return f"{seconds:.0f} s"


def _seen(verdict: CanaryVerdict, track: Track, name: str) -> str:
    requests, errors = verdict.requests.get(track, 0), verdict.errors.get(track, 0)
    visitors, failing = verdict.visitors.get(track, 0), verdict.failing_visitors.get(track, 0)
    share = f" ({two_digits(100 * errors / requests)} %)" if requests and errors else ""
    of_them = f", {failing} of whom met one" if errors else ""
    return f"{name} failed {errors} of {requests} requests{share} of {visitors} visitors{of_them}"


def _harm(harm: Harm) -> str:
    bound = min(harm.bound, 100.0) if harm.bound is not None and harm.unit == "points" else harm.bound
    at_most = f", at most {two_digits(bound)}" if bound is not None else ""
    than = "more than production" if harm.unit == "points" else "slower than production"
    measured = f"{harm.name} {two_digits(harm.effect or 0.0)} {harm.unit}"
    return f"{measured} {than}{at_most} (from {harm.margin:g} on it is too much)"


def _latency(verdict: CanaryVerdict) -> str:
    canary, stable = (verdict.latency_ms.get(track, {}) for track in (Track.CANARY, Track.STABLE))
    parts = [f"{name} {canary[name]:.0f} ms, production's {stable[name]:.0f} ms" for name in canary if name in stable]
    return f"Until its answers began: {'; '.join(parts)}." if parts else ""
