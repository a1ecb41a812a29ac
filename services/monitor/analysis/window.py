"""Defines the input of the canary analysis: windows, which are the requests of both tracks in a few seconds."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.models import Track


@dataclass(frozen=True)
class TrackWindow:
    """Holds the requests of one track (production or canary) in a few seconds. Only visitors count whom chance assigned
    to the track.
    """

    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    """Answers with a status from 400 to 499."""
    latency: tuple[int, ...] = ()
    """Requests in each latency bucket, not cumulative; empty if no latency was measured."""
    failing_visitors: int = 0
    """Visitors who had an error, since the rollout was opened."""
    visitors: int = 0
    """Visitors since the rollout was opened. A visitor without a cookie counts anew with each request."""


@dataclass(frozen=True)
class JudgedWindow:
    """Holds the requests of both tracks, production and canary, in the few seconds between two readings of the proxy's
    counters. Windows follow each other; they may be of different length.
    """

    at_s: float
    """End of the window, in seconds since the rollout was opened."""
    seconds: float
    """Length of the window."""
    step: int
    weight: int
    """The canary's share of visitors in percent, as set."""
    tracks: Mapping[Track, TrackWindow]
    warming: bool = False
    """True if an instance of the canary joined in this window or shortly before it: then its latencies do not count."""
