"""Draws the traffic of a rollout: requests of both tracks, independent of each other, in windows of 2 s."""

import functools
import itertools
import math
import operator
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from services.monitor.analysis.window import JudgedWindow, TrackWindow
from shared.models import Track

LE_MS: tuple[float | None, ...] = (*(round(0.5 * 1.15**bucket, 4) for bucket in range(100)), None)
WINDOW_S = 2.0
LOST_READINGS = 0.02
"""Share of windows that are 6 s long, because two readings were lost."""
NOISE_S = 20.0
RARE = 1e-7
LAST_DIGITS = 1e-12


@dataclass(frozen=True)
class Disturbance:
    """Changes one track, or both, for some time."""

    from_s: float = 0.0
    to_s: float = math.inf
    errors: float = 0.0
    """Further share of errors."""
    slower: float = 1.0
    """Factor of the latency."""

    def holds(self, at_s: float) -> bool:
        return self.from_s <= at_s < self.to_s


COLD = Disturbance(to_s=20.0, slower=4.0)
"""A canary whose caches are cold."""


class Traffic(Protocol):
    """Draws the windows of one run."""

    @property
    def length_s(self) -> float: ...

    def windows(self, random: Random) -> Iterator[JudgedWindow]:
        """Returns the windows of one run; the same for the same seed."""
        ...


@dataclass(frozen=True)
class Independent:
    """Describes traffic in which each request is one of a new visitor."""

    rate: float = 10.0
    """Requests a second, of both tracks."""
    errors: float = 0.001
    client_errors: float = 0.02
    median_ms: float = 100.0
    sigma: float = 0.5
    """Spread of the latency: standard deviation of its logarithm."""
    cached: float = 0.0
    """Share of requests that take a twentieth of the time."""
    steps: tuple[tuple[int, float], ...] = ((33, 600.0),)
    """Weight and length of each step."""
    both: tuple[Disturbance, ...] = ()
    canary: tuple[Disturbance, ...] = (COLD,)
    swing: float = 0.0
    """Part by which rate, errors and latency of both tracks swing up and down, every 2 minutes."""
    noise: float = 0.0
    """Part by which each track's latency differs by chance, anew every 20 s (`NOISE_S`)."""
    burst_s: float = 0.0
    """Length of a burst, at a random time, in which half of the canary's requests fail."""

    @property
    def length_s(self) -> float:
        return sum(length for _, length in self.steps)

    def windows(self, random: Random) -> Iterator[JudgedWindow]:
        return with_lost_readings(self._readings(random), random)

    def _readings(self, random: Random) -> Iterator[JudgedWindow]:
        burst_s = random.uniform(60, self.length_s - 60)
        totals = {track: [0, 0] for track in Track}
        noise = dict.fromkeys(Track, 1.0)
        at_s, step, step_ends = 0.0, 0, self.steps[0][1]
        while at_s < self.length_s:
            if self.noise and at_s % NOISE_S == 0:
                noise = {track: round(math.exp(random.gauss(0, self.noise)), 2) for track in Track}
            weight = self.steps[step][0]
            tracks = {}
            for track in Track:
                part = weight / 100 if track is Track.CANARY else 1 - weight / 100
                changes = (*self.both, *(self.canary if track is Track.CANARY else ()))
                drawn = self._track(at_s, part, changes, noise[track], random)
                if track is Track.CANARY and burst_s <= at_s < burst_s + self.burst_s:
                    drawn = _half_fails(drawn)
                requests, errors, client_errors, latency = drawn
                totals[track][0] += requests
                totals[track][1] += errors
                tracks[track] = TrackWindow(
                    requests, errors, client_errors, latency, totals[track][1], totals[track][0]
                )
            at_s += WINDOW_S
            yield JudgedWindow(at_s, WINDOW_S, step, weight, tracks)
            if at_s >= step_ends and step + 1 < len(self.steps):
                step += 1
                step_ends += self.steps[step][1]

    def _track(
        self, at_s: float, part: float, changes: Sequence[Disturbance], noise: float, random: Random
    ) -> tuple[int, int, int, tuple[int, ...]]:
        wave = self.swing * math.sin(2 * math.pi * at_s / 120)
        rate = self.rate * (1 + round(wave, 1)) * part * WINDOW_S
        share, slower = self.errors * (1 + 2 * round(max(wave, 0.0), 1)), noise * (1 + round(wave, 1) / 2)
        for change in changes:
            if change.holds(at_s):
                share, slower = min(share + change.errors, 1.0), slower * change.slower
        errors = poisson(rate * share, random)
        client_errors = poisson(rate * (1 - share) * self.client_errors, random)
        answered = rate * (1 - share) * (1 - self.client_errors)
        latency = histogram(answered, round(self.median_ms * slower, 1), self.sigma, self.cached, random)
        return errors + client_errors + sum(latency), errors, client_errors, latency


def with_lost_readings(windows: Iterator[JudgedWindow], random: Random) -> Iterator[JudgedWindow]:
    """Returns the windows, of which some are put together with the two that follow."""
    for window in windows:
        if random.random() < LOST_READINGS:
            for other in itertools.islice(windows, 2):
                if other.step != window.step:
                    yield window
                    window = other
                else:
                    window = _together(window, other)
        yield window


def _together(one: JudgedWindow, other: JudgedWindow) -> JudgedWindow:
    tracks = {}
    for track in Track:
        old, new = one.tracks[track], other.tracks[track]
        tracks[track] = TrackWindow(
            old.requests + new.requests,
            old.errors + new.errors,
            old.client_errors + new.client_errors,
            tuple(map(operator.add, old.latency, new.latency)),
            new.failing_visitors,
            new.visitors,
        )
    return JudgedWindow(other.at_s, one.seconds + other.seconds, other.step, other.weight, tracks)


def _half_fails(
    drawn: tuple[int, int, int, tuple[int, ...]],
) -> tuple[int, int, int, tuple[int, ...]]:
    requests, errors, client_errors, latency = drawn
    kept = tuple(count // 2 for count in latency)
    return requests, errors + sum(latency) - sum(kept), client_errors, kept


@functools.lru_cache(maxsize=200_000)
def _poisson_table(mean: float) -> list[float]:
    """Returns the distribution function of a Poisson variable, until it is 1."""
    probability = total = math.exp(-mean)
    table, count = [total], 0
    while total < 1 - LAST_DIGITS and count < mean + 12 * math.sqrt(mean) + 20:
        count += 1
        probability *= mean / count
        total += probability
        table.append(total)
    return table


def poisson(mean: float, random: Random) -> int:
    """Returns a random number of events, of which `mean` are expected."""
    return bisect_left(_poisson_table(round(mean, 9)), random.random()) if mean > RARE else 0


@functools.lru_cache(maxsize=10_000)
def shares(median_ms: float, sigma: float) -> list[float]:
    """Returns the share of requests in each bucket, if latencies are lognormal."""
    below = [
        0.5 * (1 + math.erf(math.log(bound / median_ms) / sigma / math.sqrt(2))) if bound is not None else 1.0
        for bound in LE_MS
    ]
    return [high - low for low, high in zip([0.0, *below], below, strict=False)]


@functools.lru_cache(maxsize=10_000)
def _bucket_tables(
    requests: float, median_ms: float, sigma: float, cached: float
) -> tuple[int, int, list[list[float]]]:
    """Returns the first bucket that may have requests, the number of buckets after the last one, and the table of
    each bucket between.
    """
    slow, quick = shares(median_ms, sigma), shares(median_ms / 20, sigma)
    means = [requests * ((1 - cached) * one + cached * other) for one, other in zip(slow, quick, strict=True)]
    used = [bucket for bucket, mean in enumerate(means) if mean > RARE]
    if not used:
        return 0, len(means), []
    first, last = used[0], used[-1]
    return first, len(means) - last - 1, [_poisson_table(means[bucket]) for bucket in range(first, last + 1)]


def histogram(requests: float, median_ms: float, sigma: float, cached: float, random: Random) -> tuple[int, ...]:
    """Returns a random histogram of latencies, in which `requests` requests are expected."""
    first, after, tables = _bucket_tables(round(requests, 6), median_ms, sigma, cached)
    draw = random.random
    return (*(0,) * first, *[bisect_left(table, draw()) for table in tables], *(0,) * after)
