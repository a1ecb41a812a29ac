"""Formats evidence and traffic figures for people. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from shared.web.pages import percent, utc


class Fact(NamedTuple):
    label: str
    text: str


LABELS = {
    "words": "What was seen",
    "value": "Measured",
    "for_s": "Lasted at least",
    "ran_s": "The rollout ran for",
    "seconds": "Measured over",
}
HIDDEN = frozenset({"traffic", "verdict", "step", "recognised"})  # in a table, or on the page of the analysis
COUNTS = {"errors_by_kind": "Errors of {}", "left_out": "Left out"}
SHARES = frozenset({"error_share", "memory", "memory_at_cap"})
UNITS = {"latency": " times stable's", "latency_ms": " ms", "cpu": " % of a core", "no_samples": " s"}


def facts(evidence: Mapping[str, Any]) -> list[Fact]:
    """Returns the evidence of an abort as labelled lines for a page, in its order. Nested entries are flattened;
    entries that this page or that of the canary analysis shows elsewhere are left out. The entry `metric` determines
    the unit of `value` and `threshold`; the analysis has neither. For other entries, the end of the name does: `_ms`,
    `_s`, `_at`, `_share`.
    """
    metric = evidence.get("metric")
    hidden = HIDDEN | ({"metric", "value", "threshold"} if metric == "analysis" else set())
    found: list[Fact] = []
    for name, value in evidence.items():
        if name in hidden or value in (None, "", {}, []) or (name, value) == ("sampled_one_in", 1):
            continue
        if name in COUNTS and isinstance(value, Mapping):
            found += _counts(COUNTS[name], value)
        elif isinstance(value, Mapping):
            found += facts(value)
        else:
            found.append(Fact(_label(name), _text(name, value, metric)))
    return found


def _counts(label: str, counts: Mapping[str, Any]) -> list[Fact]:
    """Returns one line for each group in `counts` (group → name → number) that is not empty. If `counts` has no groups,
    returns one line. `{}` in `label` stands for the group's name.
    """
    groups = counts if all(isinstance(each, Mapping) for each in counts.values()) else {"": counts}
    return [
        Fact(label.format(group), ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in each.items()))
        for group, each in groups.items()
        if each
    ]


def share(value: float | None) -> str:
    """Formats a share: `33 %` for 0.333, `0.42 %` for 0.0042 (below 10 % two significant digits), `-` for None."""
    return percent(value) if value is None or value >= 0.1 else f"{value * 100:.2g} %"


def share_of(part: int, whole: int) -> float | None:
    """Returns `part / whole`; None if `whole` is 0."""
    return part / whole if whole else None


def duration(seconds: float) -> str:
    """Formats a duration: `1 min 1 s` for 61.5, `2 h 1 min` for 7260, `10 min` for 600."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h" + (f" {minutes} min" if minutes else "")
    return f"{hours // 24} days" + (f" {hours % 24} h" if hours % 24 else "")


def milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} ms" if value < 1000 else f"{value:.0f} ms"


def _label(name: str) -> str:
    if name in LABELS:
        return LABELS[name]
    words = name.removesuffix("_ms").removesuffix("_s").replace("_", " ")
    return words[:1].upper() + words[1:]


def _text(name: str, value: Any, metric: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if name == "metric":
        return str(value).replace("_", " ")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return _time(value) if name == "since" or name.endswith("at") else str(value)
    if name in ("value", "threshold") and isinstance(metric, str):
        return share(value) if metric in SHARES else f"{value:.4g}{UNITS.get(metric, '')}"
    if name.endswith("_ms"):
        return milliseconds(value)
    if name == "seconds" or name.endswith("_s"):
        return duration(value)
    if name.endswith("share"):
        return share(value)
    return f"{value} %" if name == "weight" else f"{value:.6g}"


def _time(value: object) -> str:
    try:
        return f"{utc(datetime.fromisoformat(str(value)))} UTC"
    except ValueError:
        return str(value)
