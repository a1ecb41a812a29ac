"""Adds up the requests of a whole rollout, or of its newest part. Production's requests are weighted, so that each step
of the rollout counts as much for production as for the canary. What changes for both tracks (production and canary)
from step to step is then no difference between them (Simpson's paradox). Steps in which one track has no requests do
not count.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from services.monitor.analysis.strata import RECENT, PairSums, Strata, StratifiedTests, Stratum


@dataclass(frozen=True)
class ReweightedErrors:
    """Holds errors and requests (`…_of`) of the canary and of production. Production's share of errors is as if its
    requests were spread over the rollout's steps as the canary's are; `stable_of` is the number of requests that would
    be as precise without this reweighting.
    """

    canary_of: float
    canary: float
    stable_of: float
    stable: float


@dataclass(frozen=True)
class ReweightedLatency:
    """Holds requests by latency bucket, and their number (`…_of`), of the canary and of production. Production's are as
    if they were spread over the rollout's steps as the canary's are; `stable_of` is the number of requests that would
    be as precise without this reweighting.
    """

    canary: Sequence[int]
    canary_of: int
    stable: Sequence[float]
    stable_of: float


@dataclass(frozen=True)
class Section:
    """Holds the requests of both tracks (production and canary) in a part of the rollout: sums for tests, and counts by
    step of the rollout.
    """

    tests: StratifiedTests
    steps: list[PairSums]
    when: str = ""
    """Part of a sentence that says which part of the rollout it is, such as ` lately`; empty for the whole."""

    @cached_property
    def total(self) -> PairSums:
        return PairSums.total(self.buckets, self.steps)

    @property
    def buckets(self) -> int:
        return len(self.steps[0].canary.latency) if self.steps else 0

    @cached_property
    def errors(self) -> ReweightedErrors | None:
        """Returns the errors of both tracks (production and canary), production's weighted so that each step of the
        rollout counts as much as for the canary. Returns None if no step has requests of both.
        """
        return _reweighted(
            [
                (each.canary.errors, each.canary.requests, each.stable.errors, each.stable.requests)
                for each in self.steps
            ]
        )

    @cached_property
    def client_errors(self) -> ReweightedErrors | None:
        """Returns the client errors (4xx) of both tracks (production and canary), production's weighted so that each
        step of the rollout counts as much as for the canary. Returns None if no step has requests of both.
        """
        return _reweighted(
            [
                (each.canary.client_errors, each.canary.requests, each.stable.client_errors, each.stable.requests)
                for each in self.steps
            ]
        )

    @cached_property
    def latency(self) -> ReweightedLatency | None:
        """Returns the latencies of both tracks (production and canary), production's weighted so that each step of the
        rollout counts as much as for the canary. Returns None if no step has latencies of both.
        """
        counted = [(sum(each.canary.latency), sum(each.stable.latency), each) for each in self.steps]
        parts = [(mine, others, each) for mine, others, each in counted if mine and others]
        if not parts:
            return None
        if len(parts) == 1:
            mine, others, only = parts[0]
            return ReweightedLatency(only.canary.latency, mine, only.stable.latency, others)
        canary_of = sum(mine for mine, _, _ in parts)
        worth = canary_of**2 / sum(mine**2 / others for mine, others, _ in parts)
        weights = [mine / others / canary_of * worth for mine, others, _ in parts]
        canary, stable = [0] * self.buckets, [0.0] * self.buckets
        for weight, (_, _, each) in zip(weights, parts, strict=True):
            canary = [one + more for one, more in zip(canary, each.canary.latency, strict=True)]
            stable = [one + weight * more for one, more in zip(stable, each.stable.latency, strict=True)]
        return ReweightedLatency(canary, canary_of, stable, worth)


def _reweighted(steps: Iterable[tuple[int, int, int, int]]) -> ReweightedErrors | None:
    """Returns the sums over all steps of a rollout. Production's errors are weighted: a step counts by its share of the
    canary's requests, so that what changes for both from step to step is no difference between them. Each of `steps` is
    (errors of the canary, its requests, errors of production, its requests); one without requests of both is skipped.
    Returns None if all are skipped.
    """
    parts = [each for each in steps if each[1] and each[3]]
    if not parts:
        return None
    canary_of = sum(of for _, of, _, _ in parts)
    shares = [of / canary_of for _, of, _, _ in parts]
    worth = 1 / sum(share**2 / others for share, (_, _, _, others) in zip(shares, parts, strict=True))
    stable = sum(share * errors / of for share, (_, _, errors, of) in zip(shares, parts, strict=True))
    return ReweightedErrors(canary_of, sum(errors for errors, _, _, _ in parts), worth, stable * worth)


@dataclass(frozen=True)
class Sections:
    """Holds the requests of both tracks (production and canary) in the whole rollout, in its last 2 minutes (`newest`)
    and in its last 20 to 40 s (`latest`).
    """

    whole: Section
    newest: Section
    latest: Section

    @classmethod
    def of(cls, strata: Strata) -> "Sections":
        return cls(whole(strata), newest(strata), newest(strata, ended=1))


def whole(strata: Strata, without: Stratum | None = None) -> Section:
    """Returns the requests of the whole rollout, except those of the stratum (slice of time) `without`."""
    tests, by_step = strata.tests.copy(), {step: [sums] for step, sums in strata.by_step.items()}
    if strata.open is not None:
        tests.add(strata.open)
        by_step.setdefault(strata.open.step, []).append(strata.open)
    sums = {step: PairSums.total(strata.buckets, parts) for step, parts in by_step.items()}
    if without is not None:
        tests.add(without, -1)
        sums[without.step].add(without, -1)
    return Section(tests, list(sums.values()), " outside of its worst 20 s" if without else "")


def newest(strata: Strata, ended: int = RECENT) -> Section:
    """Returns the requests of the stratum (slice of at least 20 s) that still grows and of the newest `ended` ones
    before it: by default those of the last 2 minutes, or of more if requests are rare.
    """
    tests, by_step = StratifiedTests(), dict[int, list[PairSums]]()
    for stratum in [*list(strata.recent)[-ended:], *([strata.open] if strata.open else [])]:
        tests.add(stratum)
        by_step.setdefault(stratum.step, []).append(stratum)
    return Section(tests, [PairSums.total(strata.buckets, parts) for parts in by_step.values()], " lately")
