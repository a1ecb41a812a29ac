"""Defines the output of the canary analysis: the verdict, with the figures that it is made of."""

from typing import Literal

from pydantic import Field

from services.monitor.analysis.lanes.margins import LaneName
from shared.models import Track, View
from shared.proxy_models import VerdictResult

HarmUnit = Literal["points", "%"]


class Harm(View):
    """Describes one kind of harm of a canary: the evidence for it (`capital`), and how large it is."""

    name: LaneName
    capital: float = Field(
        description="Evidence for the harm. Chance reaches 100 with a probability of at most 1 %, whenever one looks."
    )
    effect: float | None = Field(description="Measured harm in `unit`; null while too little is known.")
    margin: float = Field(description="Smallest harm that aborts, in `unit`.")
    bound: float | None = Field(
        description="The harm is not larger than this, with a confidence of 95 %; null while too little is known."
    )
    unit: HarmUnit = Field(description="`points`: percentage points above production; `%`: slower than production.")


class CanaryVerdict(View):
    """Holds the verdict of the canary analysis at one time. `score` is 0 for a canary that failed, about 50 while too
    little is known, and 100 if harm above the margins is ruled out. All counts are since the rollout was opened.
    """

    result: VerdictResult
    score: int
    reason: str = Field(description="Sentence for people.")
    harms: list[Harm]
    seconds: float = Field(description="Time since the rollout was opened.")
    requests: dict[Track, int]
    errors: dict[Track, int]
    client_errors: dict[Track, int]
    visitors: dict[Track, int]
    failing_visitors: dict[Track, int]
    latency_ms: dict[Track, dict[str, float]] = Field(
        description="`p50`, `p90` and `p99` by track, without those for which there are too few requests. Production's "
        "are as if its requests were spread over the steps as the canary's are."
    )


def two_digits(value: float) -> str:
    """Formats a figure for people: `0.42`, `9.2`, `12`, `100`."""
    return f"{value:.2g}" if abs(value) < 10 else f"{value:.0f}"
