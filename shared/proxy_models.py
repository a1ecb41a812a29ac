"""Defines the REST bodies that other services exchange with the proxy service."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field, JsonValue

from shared.canary import Canary, CanaryStep
from shared.manifest import HEALTH
from shared.models import Model, Track, View


class SyncRequest(Model):
    hosts: list[str] = Field(
        description="Further host names of the app, or `*.example.com`; `<app>.<SLIPWAY_DOMAIN>` is always one."
    )
    health: str = Field("/up", pattern=HEALTH, description="How to check instances: `run.health` of the manifest.")
    health_host: str = Field("", description="`Host` of the checks; empty: each instance's address.")


class RouteState(StrEnum):
    ROUTABLE = "routable"
    DRAINING = "draining"
    ABSENT = "absent"


class InstanceRoute(View):
    route: RouteState
    active: int = Field(0, description="Number of requests in flight from Envoy to the instance.")
    cut: int = Field(0, description="Number of requests that were in flight when its time to drain was over.")


class SyncResult(View):
    """Response body of `POST /apps/{app}/sync`. `version` is a hash of the app's configuration that Envoy has accepted;
    `instances` holds instance id → state of its route in Envoy.
    """

    version: str
    instances: dict[str, InstanceRoute]


class RolloutState(StrEnum):
    PROGRESSING = "progressing"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ABORTED = "aborted"


class RolloutRequest(Model):
    """Request body of `POST /apps/{app}/rollout`. `weight` is in percent; null stands for 33."""

    release: str
    weight: int | None = Field(None, ge=0, le=100)
    notify: list[str] = Field([], description="Addresses for the rollout's events, from the manifest.")
    canary: Canary | None = Field(None, description="`canary` of the manifest; null: a fixed share, `weight`.")
    override_key: str = Field(
        "", repr=False, description="Value that the header `x-canary` must carry to get the canary; empty: `always`."
    )


class RolloutAction(Model):
    """Request body of abort and promote. The answer is 409 if `release` is not the release of the current
    rollout. `evidence` of an abort holds the measurements that led to it (rule, value, threshold …); the rollout and
    its event keep them.
    """

    release: str
    reason: str = ""
    evidence: dict[str, JsonValue] = Field({})


class VerdictResult(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class VerdictSummary(View):
    """Holds the verdict of the canary analysis at one time. `score` is 0 for a canary that failed, about 50 while too
    little is known, and 100 if harm above the tolerated margins is ruled out.
    """

    result: VerdictResult
    score: int
    reason: str
    at: datetime


class RolloutAdvance(Model):
    """Request body of `POST /apps/{app}/rollout/advance`: the time of the step with the number `step` (0 for the first)
    is over, and the canary analysis says `verdict`. A verdict `fail` needs a `hold`.
    """

    release: str
    step: int = Field(ge=0)
    verdict: VerdictSummary
    hold: str = Field("", description="Reason why the rollout must stay at the step; empty: it goes on.")


class StepAction(RolloutAction):
    """Request body of `POST /apps/{app}/rollout/resume` and `/skip`."""

    step: int | None = Field(
        None, ge=0, description="The step that shall end, 0 for the first; if it has ended, nothing is changed."
    )


class RolloutStepEnd(View):
    """Records the end of a rollout's step. `verdict` is null if no analysis ended the step."""

    at: datetime
    reason: str
    verdict: VerdictSummary | None = None


class RolloutView(View):
    """Describes an app's rollout. `weight` is in percent of new visitors; `at` is the time of the last transition.
    `release`, `state`, `reason` and `at` are null if there is no rollout. `evidence` holds the measurements that led to
    an abort. Without `steps`, the share stays until people end the rollout.
    """

    app: str
    enabled: bool = True
    weight: int = 33
    release: str | None = None
    state: RolloutState | None = None
    reason: str | None = None
    at: datetime | None = None
    evidence: dict[str, JsonValue] = Field({})
    opened_at: datetime | None = None
    steps: list[CanaryStep] = Field([])
    ended_steps: list[RolloutStepEnd] = Field([], description="How the steps that are over ended, in order.")
    step: int = Field(0, description="Number of the current step, 0 for the first; once all have ended, of the steps.")
    step_at: datetime | None = Field(None, description="Time at which the current step began.")
    step_ends_at: datetime | None = Field(
        None, description="Time from which the analysis may end the step; null while it does not run."
    )
    hold: str = Field("", description="Why the step goes on although its time is over; empty if it does not.")
    promote: str = "by-hand"
    mirror: int = 0
    verdict: VerdictSummary | None = Field(None, description="The verdict that came with the last step's end or hold.")


class LatencyHistogram(View):
    """Holds a cumulative histogram: `counts[i]` requests took at most `le_ms[i]` ms. The last bound is infinity,
    written as null.
    """

    le_ms: list[float | None]
    counts: list[int]

    @property
    def total(self) -> int:
        """Returns the number of requests in the histogram."""
        return self.counts[-1] if self.counts else 0


def quantile_ms(histogram: LatencyHistogram, share: float, digits: int = 3) -> float | None:
    """Returns the latency in milliseconds that `share` (above 0, at most 1) of the requests did not exceed; None if
    there are no requests. It assumes, as Prometheus' histogram_quantile does, that requests are evenly distributed
    within a bucket and that the first bucket begins at 0. Requests above the last finite bound count as that bound.
    """
    if histogram.total <= 0:
        return None
    rank = share * histogram.total
    low, below = 0.0, 0
    for bound, count in zip(histogram.le_ms, histogram.counts, strict=True):
        if bound is None:
            break
        if count >= rank:
            return round(low + (bound - low) * (rank - below) / (count - below), digits)
        low, below = bound, count
    return round(low, digits)


class TrackTraffic(View):
    """Holds counters of one track (production or canary). They never decrease as long as `epoch` of the answer stays
    the same. `requests` counts the requests of the visitors who were assigned to the track, `errors` those of them that
    failed (a visitor who leaves before the answer is no error); `latency` is the time until the answer began.
    """

    release: str | None
    requests: int
    errors: int
    latency: LatencyHistogram


class RequestError(StrEnum):
    """Names the ways in which a visitor's request fails."""

    STATUS = "status"
    """The app answered with a status of 500 and above."""
    RESET = "reset"
    """The instance ended the connection, or could not be reached, before it began to answer."""
    CUT = "cut"
    """The answer ended in the middle."""
    HANGING = "hanging"
    """No answer began within `hang_limit_ms`."""
    GAVE_UP = "gave_up"
    """The visitor ended the connection before an answer began."""
    FAILED_OVER = "failed_over"
    """The canary could not take the request, and production answered it."""
    GRPC = "grpc"
    """The gRPC status says that the server failed: 2, 4, 12, 13, 14 or 15."""


class LeftOut(StrEnum):
    """Names the reasons for which the canary analysis leaves a request, or its latency, out of its comparison of the
    canary with production.
    """

    FORCED = "forced"
    """The visitor chose production or the canary, by the header `x-canary` or the port."""
    CAPPED = "capped"
    """The visitor had sent 5 requests in the same window of 2 s already."""
    UNSAMPLED = "unsampled"
    """Traffic is so high that only one visitor in `sampled_one_in` counts."""
    STREAM = "stream"
    """Its answer is an event stream or a connection that was upgraded: it counts, but without its latency."""


class JudgedTrack(View):
    """Counts the requests of visitors whom chance assigned to one track (production or canary). A request counts for
    that track even if the other one answered it. `client_errors` are answers with a status from 400 to 499; `latency`
    is the time until the answer began. `failing_visitors` is the number of visitors who had an error.
    """

    requests: int = 0
    errors: dict[RequestError, int] = Field({})
    client_errors: int = 0
    latency: LatencyHistogram
    visitors: int = 0
    failing_visitors: int = 0


class JudgedTraffic(View):
    """Holds what the canary analysis compares: an app's requests since the rollout of `release` was opened, or since
    the proxy began to count again (another `epoch` of the traffic). `left_out` counts, by reason, what is not compared;
    `recognised` counts requests whose visitor was known by a cookie. If `sampled_one_in` is above 1, only one visitor
    in so many is counted. A request hangs if no answer began within `hang_limit_ms`.
    """

    release: str
    weight: int
    tracks: dict[Track, JudgedTrack]
    left_out: dict[LeftOut, int] = Field({})
    recognised: int = 0
    sampled_one_in: int = 1
    hang_limit_ms: float = 0


class TrafficView(View):
    """Describes an app's traffic since its counters last began at 0, which `epoch` identifies. `share_set` and
    `share_seen` are the canary's share of requests, as set and as measured, from 0 to 1; `share_seen` is null before
    the first request.
    """

    epoch: str
    share_set: float
    share_seen: float | None
    tracks: dict[Track, TrackTraffic]
    judged: JudgedTraffic | None = Field(None, description="What the canary analysis compares; null: no open rollout.")


class AppTraffic(TrafficView):
    """Holds an item of the proxy's `GET /traffic`: the traffic of one app, and its rollout as `GET /apps/{app}/rollout`
    returns it.
    """

    app: str
    rollout: RolloutView | None = Field(None, description="Null: a proxy of an earlier version says nothing of it.")
