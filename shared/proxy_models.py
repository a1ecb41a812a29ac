"""Defines the REST bodies that other services exchange with the proxy service."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field, JsonValue

from shared.manifest import HEALTH
from shared.models import Model, Track, View


class SyncRequest(Model):
    hosts: list[str] = Field(description="Further host names of the app; `<app>.<SLIPWAY_DOMAIN>` is always one.")
    health: str = Field("/up", pattern=HEALTH, description="How to check instances: `run.health` of the manifest.")
    health_host: str = Field("", description="`Host` of the checks; empty: each instance's address.")


class RouteState(StrEnum):
    ROUTABLE = "routable"
    DRAINING = "draining"
    ABSENT = "absent"


class InstanceRoute(View):
    route: RouteState
    active: int = Field(0, description="Number of requests in flight from Envoy to the instance.")


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


class RolloutAction(Model):
    """Request body of abort, resume and promote. The answer is 409 if `release` is not the release of the current
    rollout. `evidence` of an abort holds the measurements that led to it (rule, value, threshold …); the rollout and
    its event keep them.
    """

    release: str
    reason: str = ""
    evidence: dict[str, JsonValue] = Field({})


class RolloutView(View):
    """Describes an app's rollout. `weight` is in percent of new visitors; `at` is the time of the last transition.
    `release`, `state`, `reason` and `at` are null if there is no rollout. `evidence` holds the measurements that led to
    an abort.
    """

    app: str
    enabled: bool = True
    weight: int = 33
    release: str | None = None
    state: RolloutState | None = None
    reason: str | None = None
    at: datetime | None = None
    evidence: dict[str, JsonValue] = Field({})


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


class TrackTraffic(View):
    """Holds counters of one track. They never decrease as long as `epoch` of the answer stays the same. `requests`
    counts all requests that the track's instances answered, `errors` those with a status of 500 and above; `latency` is
    the histogram of their latencies.
    """

    release: str | None
    requests: int
    errors: int
    latency: LatencyHistogram


class TrafficView(View):
    """Describes an app's traffic since its counters last began at 0, which `epoch` identifies. `share_set` and
    `share_seen` are the canary's share of requests, as set and as measured, from 0 to 1; `share_seen` is null before
    the first request.
    """

    epoch: str
    share_set: float
    share_seen: float | None
    tracks: dict[Track, TrackTraffic]


class AppTraffic(TrafficView):
    """Holds an item of the proxy's `GET /traffic`: the traffic of one app, and its rollout as in `GET
    /apps/{app}/rollout`.
    """

    app: str
    rollout: RolloutView | None = Field(None, description="Null: a proxy of an earlier version says nothing of it.")
