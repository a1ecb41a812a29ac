"""Draws traffic of visitors who stay on their track, each with habits of their own: nothing that the tests assume."""

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from bench.canary.traffic import LE_MS, WINDOW_S, with_lost_readings
from services.monitor.analysis.window import JudgedWindow, TrackWindow
from shared.models import Track

BOUNDS_MS = [bound for bound in LE_MS if bound is not None]
MOST_IN_A_WINDOW = 5
"""Requests of one visitor that count in a window."""


@dataclass
class SimulatedVisitor:
    """Describes one visitor, who comes for `length_s` from `from_s` on."""

    track: Track
    from_s: float
    length_s: float
    rate: float
    errors: float
    median_ms: float
    seen: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Sticky:
    """Describes traffic of visitors of the same release on both tracks. `broken` of them get an error in every second
    request, whatever their track; each has a latency of its own.
    """

    visitors: int = 60
    """Visitors who are there at the same time."""
    rate: float = 0.2
    """Requests a second of each visitor, in the middle; some send ten times as many."""
    stays_s: float = 300.0
    broken: float = 0.02
    spread: float = 0.3
    harm: float = 0.0
    """Further share of errors of the canary."""
    slower: float = 1.0
    """Factor of the canary's latency."""
    weight: int = 33
    length_s: float = 600.0

    def _visitor(self, from_s: float, random: Random) -> SimulatedVisitor:
        return SimulatedVisitor(
            track=Track.CANARY if random.random() < self.weight / 100 else Track.STABLE,
            from_s=from_s,
            length_s=random.expovariate(1 / self.stays_s),
            rate=self.rate * math.exp(random.gauss(0, 1)),
            errors=0.5 if random.random() < self.broken else 0.001,
            median_ms=100 * math.exp(random.gauss(0, self.spread)),
        )

    def windows(self, random: Random) -> Iterator[JudgedWindow]:
        return with_lost_readings(self._readings(random), random)

    def _readings(self, random: Random) -> Iterator[JudgedWindow]:
        present = [self._visitor(0.0, random) for _ in range(self.visitors)]
        known = {track: [0, 0] for track in Track}
        for number in range(int(self.length_s / WINDOW_S)):
            at_s = number * WINDOW_S
            present = [each for each in present if at_s < each.from_s + each.length_s]
            for _ in range(self.visitors):
                if random.random() < WINDOW_S / self.stays_s:
                    present.append(self._visitor(at_s, random))
            tracks = {track: self._window(track, present, known[track], random) for track in Track}
            yield JudgedWindow(at_s + WINDOW_S, WINDOW_S, 0, self.weight, tracks)

    def _window(self, track: Track, present: list[SimulatedVisitor], known: list[int], random: Random) -> TrackWindow:
        requests, errors, latency = 0, 0, [0] * len(LE_MS)
        for each in present:
            if each.track is not track:
                continue
            harm, slower = (self.harm, self.slower) if track is Track.CANARY else (0.0, 1.0)
            count = 0
            waits = random.expovariate(each.rate)
            while waits < WINDOW_S and count < MOST_IN_A_WINDOW:
                count += 1
                waits += random.expovariate(each.rate)
                if random.random() < each.errors + harm:
                    errors += 1
                    known[1] += not each.failed
                    each.failed = True
                else:
                    ms = slower * each.median_ms * math.exp(random.gauss(0, 0.5))
                    latency[bisect_left(BOUNDS_MS, ms)] += 1
            if count:
                known[0] += not each.seen
                each.seen = True
            requests += count
        return TrackWindow(requests, errors, 0, tuple(latency), known[1], known[0])
