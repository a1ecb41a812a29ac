"""Switchover of an update: when its new version had all visitors, computed from the results of a load. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from stack.clients.load_report import Result, report

QUIET_S = 1.0
HEAD = f"{'':34}{'first':>9}{'all':>9}{'ratio':>8}{'updates':>9}{'requests':>10}{'lost':>7}{'an update':>11}{'gap':>10}"


@dataclass(frozen=True, slots=True)
class Switchover:
    """The measurements of one update."""

    first_s: float
    """Seconds from the image being ready until the first answer of the new version."""
    all_s: float
    """Seconds from the image being ready until the first answer after which all were of the new version."""
    sent: int
    """Requests from the update's begin to its end."""
    lost: int
    largest_gap_ms: float


def switchover(results: Iterable[Result], version: str, ready: float, since: float, until: float) -> Switchover:
    """Computes the measurements of one update; moments are seconds on the load's clock.

    A lost request counts as an answer of another version; an answer without a version is ignored. Raises ValueError if
    no answer of `version` came from `since` until `until`, or none after the last other one.
    """
    results = list(results)
    answered = [each for each in results if since <= each.done <= until and (each.commit or each.lost)]
    new = [each.done for each in answered if each.commit == version]
    last_other = max((each.done for each in answered if each.commit != version), default=since)
    alone = min((moment for moment in new if moment > last_other), default=None)
    if alone is None:
        raise ValueError(f"{version} did not take over")
    part = report(results, since, until)
    return Switchover(min(new) - ready, alone - ready, part.sent, part.lost, part.largest_gap_ms)


def is_over(results: Sequence[Result], version: str, now: float) -> bool:
    """Returns whether for `QUIET_S` seconds only `version` has answered and no request was lost.

    `results` are in the order of their ends.
    """
    for each in reversed(results):
        if each.commit or each.lost:
            if each.commit != version:
                return False
            if each.done <= now - QUIET_S:
                return True
    return False


def line(name: str, row: Sequence[Switchover], ours: Sequence[Switchover]) -> str:
    """Returns a line under HEAD: medians of the times, sums of the requests, the largest gap.

    The ratio compares the median of `all` with that of `ours`.
    """
    if not row:
        return f"{name:34}no update came to its end"
    first_s, all_s = median(each.first_s for each in row), median(each.all_s for each in row)
    ratio = all_s / median(each.all_s for each in ours)
    requests, lost = sum(each.sent for each in row), sum(each.lost for each in row)
    lost_each = median(each.lost for each in row)
    times = f"{first_s:>7.2f} s{all_s:>7.2f} s{ratio:>6.1f} x"
    gap = max(each.largest_gap_ms for each in row)
    return f"{name:34}{times}{len(row):>9}{requests:>10}{lost:>7}{lost_each:>11g}{gap:>7.0f} ms"
