"""Runs cases: the product's judge and Flagger's rule on the same windows."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from random import Random
from statistics import median

from bench.canary.cases import Promise, SimulatedCase
from bench.canary.flagger import Flagger
from bench.canary.traffic import LE_MS
from services.monitor.analysis.judge import Judge
from shared.models import Track
from shared.proxy_models import VerdictResult

INTERVALS_S = (60.0, 10.0)
CHUNK = 20
TOLERATED = 0.01


@dataclass(frozen=True)
class Abort:
    """Says when a canary was aborted, and how many bad answers it had given by then. Both count from the time at which
    its harm began.
    """

    at_s: float
    bad: int


@dataclass(frozen=True)
class RolloutOutcome:
    """Holds what came out of one run."""

    result: VerdictResult
    judge: Abort | None
    flagger: tuple[Abort | None, ...]
    """Aborts by Flagger's rule, for each interval."""


def run(case: SimulatedCase, seed: int) -> RolloutOutcome:
    """Runs one rollout to its end, or until all have aborted it."""
    judge = Judge(LE_MS)
    rules = [Flagger(interval_s) for interval_s in INTERVALS_S]
    aborts: list[Abort | None] = [None for _ in rules]
    judged: Abort | None = None
    bad = 0
    for window in case.traffic.windows(Random(f"{case.name} {seed}")):
        canary = window.tracks[Track.CANARY]
        if window.at_s > case.from_s:
            bad += canary.requests if case.slow else canary.errors
        so_far = Abort(window.at_s - case.from_s, bad)
        if judged is None:
            judge.add(window)
            if judge.failed:
                judged = so_far
        for number, rule in enumerate(rules):
            if aborts[number] is None:
                rule.add(window.at_s, canary)
                if rule.rolled_back:
                    aborts[number] = so_far
        if judged and all(aborts):
            break
    result = judge.at_gate(last=True).result
    if judged is None and result is VerdictResult.FAIL:
        judged = so_far
    return RolloutOutcome(result, judged, tuple(aborts))


@dataclass(frozen=True)
class AbortSummary:
    """Sums up the aborts by one judge in all runs of a case."""

    share: float
    median_s: float | None
    worst_s: float | None
    """Time until 99 % of the aborts."""
    bad: float | None

    @classmethod
    def of(cls, aborts: Sequence[Abort | None]) -> "AbortSummary":
        found = sorted((each for each in aborts if each), key=lambda each: each.at_s)
        if not found:
            return cls(0.0, None, None, None)
        return cls(
            len(found) / len(aborts),
            median(each.at_s for each in found),
            found[min(int(0.99 * len(found)), len(found) - 1)].at_s,
            median(each.bad for each in found),
        )


@dataclass(frozen=True)
class Summary:
    """Sums up all runs of a case."""

    case: SimulatedCase
    runs: int
    passed: float
    judge: AbortSummary
    flagger: tuple[AbortSummary, ...]

    def missed(self) -> str:
        """Returns the promise that was not kept; empty if all were."""
        case, aborted = self.case, self.judge.share
        if case.promise is Promise.LEFT_ALONE and aborted > TOLERATED:
            return f"{case.name}: {aborted:.1%} aborted, at most {TOLERATED:.0%} may be"
        if case.promise is Promise.ABORTED and 1 - aborted > TOLERATED:
            return f"{case.name}: {1 - aborted:.1%} not aborted, at most {TOLERATED:.0%} may be"
        if case.median_s is not None and (self.judge.median_s or 0) > case.median_s:
            return f"{case.name}: {self.judge.median_s:.0f} s in the middle, at most {case.median_s:.0f} s may be"
        return ""


def _chunk(work: tuple[SimulatedCase, range]) -> list[RolloutOutcome]:
    case, seeds = work
    return [run(case, seed) for seed in seeds]


def summaries(cases: Sequence[tuple[SimulatedCase, int]], processes: int) -> Iterable[Summary]:
    """Runs each case as often as it says, and yields the summaries in this order."""
    work = [(case, range(first, min(first + CHUNK, runs))) for case, runs in cases for first in range(0, runs, CHUNK)]
    with Pool(processes) as pool:
        done = pool.imap(_chunk, work)
        for case, runs in cases:
            outcomes = list(itertools.chain(*itertools.islice(done, -(-runs // CHUNK))))
            yield Summary(
                case,
                runs,
                sum(outcome.result is VerdictResult.PASS for outcome in outcomes) / runs,
                AbortSummary.of([outcome.judge for outcome in outcomes]),
                tuple(
                    AbortSummary.of([outcome.flagger[number] for outcome in outcomes])
                    for number in range(len(INTERVALS_S))
                ),
            )
