"""Defines the REST bodies that other services exchange with the proxy service."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field, JsonValue

from shared.models import Model, Track, View


class SyncRequest(Model):
    hosts: list[str] = Field(description="Further host names of the app; `<app>.<SLIPWAY_DOMAIN>` is always one.")
    health: str = Field("/up", description="Health path of the app's instances.")


class RouteState(StrEnum):
    ROUTABLE = "routable"
    DRAINING = "draining"
    ABSENT = "absent"


class InstanceRoute(View):
    route: RouteState
    active: int = Field(0, description="Number of requests in flight from Envoy to the instance.")


class SyncResult(View):
    """Envoy runs configuration `version`, which gives each instance of the registry the route in `instances`."""

    version: str
    instances: dict[str, InstanceRoute]


class RolloutState(StrEnum):
    PROGRESSING = "progressing"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ABORTED = "aborted"


class RolloutRequest(Model):
    """`POST` opens the rollout of a canary release. `weight` is in percent; null: 33."""

    release: str
    weight: int | None = Field(None, ge=0, le=100)
    notify: list[str] = Field([], description="Addresses for the rollout's events, from the manifest.")


class RolloutAction(Model):
    """Body of abort, resume and promote, refused with 409 if `release` is not the rollout's current one. `evidence` of
    an abort holds the measurement (rule, value, threshold …); it is kept with the rollout and in its event.
    """

    release: str
    reason: str = ""
    evidence: dict[str, JsonValue] = Field({})


class RolloutView(View):
    """`weight` is in percent of new visitors; `release`, `state`, `reason` and `at` (the time of its last transition)
    are null if there is no rollout. `evidence` holds the measurement that an abort was decided on.
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
    """`counts[i]` counts the requests of at most `le_ms[i]` milliseconds, cumulatively; the last bound is +Inf, written
    as null.
    """

    le_ms: list[float | None]
    counts: list[int]

    @property
    def total(self) -> int:
        """The number of requests."""
        return self.counts[-1] if self.counts else 0


class TrackTraffic(View):
    """Counters of one track, monotonic within one epoch: all requests that its instances answered, and `errors`, the
    answers with a status ≥ 500.
    """

    release: str | None
    requests: int
    errors: int
    latency: LatencyHistogram


class TrafficView(View):
    """`share_set` and `share_seen` are the canary's configured and observed share of requests, from 0 to 1;
    `share_seen` is null before the first request of the epoch.
    """

    epoch: str
    share_set: float
    share_seen: float | None
    tracks: dict[Track, TrackTraffic]


class AppTraffic(TrafficView):
    """An item of `GET /traffic` of the proxy: the traffic of one app."""

    app: str
