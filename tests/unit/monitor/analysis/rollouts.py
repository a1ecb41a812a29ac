"""Makes windows of a rollout for tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.monitor.analysis.judge import Judge
from services.monitor.analysis.window import JudgedWindow, TrackWindow
from shared.models import Track

LE_MS: tuple[float | None, ...] = (*(round(1.15**bucket, 3) for bucket in range(60)), None)
QUICK, SLOW = 20, 30  # buckets; the requests of the second one take four times as long


@dataclass
class Rollout:
    """Gives windows to a judge, and counts visitors: each request is one of a new visitor, unless `visitors` says how
    many there are on each track.
    """

    judge: Judge = field(default_factory=lambda: Judge(LE_MS))
    weight: int = 33
    step: int = 0
    at_s: float = 0.0
    visitors: int | None = None
    seen: dict[Track, list[int]] = field(default_factory=lambda: {track: [0, 0] for track in Track})

    def window(
        self,
        canary: Sequence[int] = (0, 0),
        stable: Sequence[int] = (0, 0),
        seconds: float = 2.0,
        *,
        client_errors: tuple[int, int] = (0, 0),
        buckets: tuple[int, int] = (QUICK, QUICK),
        warming: bool = False,
    ) -> JudgedWindow:
        """Gives a window with the requests and errors of both tracks, and returns it. Each track's answers are in one
        bucket.
        """
        self.at_s += seconds
        tracks = {}
        for track, (requests, errors), client, bucket in zip(
            (Track.CANARY, Track.STABLE), (canary, stable), client_errors, buckets, strict=True
        ):
            seen = self.seen[track]
            seen[0] += requests
            seen[1] += errors
            latency = [0] * len(LE_MS)
            latency[bucket] = requests - errors
            visitors, failing = (min(each, self.visitors) if self.visitors else each for each in seen)
            tracks[track] = TrackWindow(requests, errors, client, tuple(latency), failing, visitors)
        made = JudgedWindow(self.at_s, seconds, self.step, self.weight, tracks, warming)
        self.judge.add(made)
        return made

    def windows(self, count: int, canary: Sequence[int], stable: Sequence[int], **more: object) -> "Rollout":
        """Gives the same window so many times, or until the canary has failed."""
        for _ in range(count):
            if not self.judge.failed:
                self.window(canary, stable, **more)  # type: ignore[arg-type]
        return self

    def healthy(self, count: int, canary: int = 7, stable: int = 14) -> "Rollout":
        return self.windows(count, (canary, 0), (stable, 0))
