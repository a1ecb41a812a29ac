"""What crosses the proxy's border: REST bodies that other services read."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field, JsonValue

from shared.models import Model, Track, View


class SyncRequest(Model):
    hosts: list[str] = Field(description="Host names of the app; `<app>.<SLIPWAY_DOMAIN>` always among them.")
    health: str = Field("/up", description="Health path of the app's instances.")


class RouteState(StrEnum):
    ROUTABLE = "routable"
    DRAINING = "draining"
    ABSENT = "absent"


class InstanceRoute(View):
    route: RouteState
    active: int = Field(0, description="Requests that Envoy has in flight to it.")


class SyncResult(View):
    """Envoy runs configuration `version`; each instance of the registry with what visitors get of it."""

    version: str
    instances: dict[str, InstanceRoute]


class RolloutState(StrEnum):
    PROGRESSING = "progressing"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ABORTED = "aborted"


class RolloutRequest(Model):
    """`POST` opens the rollout of a canary release. `weight` in percent; the manifest's, or 33, if not given."""

    release: str
    weight: int | None = Field(None, ge=0, le=100)
    notify: list[str] = Field([], description="The manifest's addresses, for the rollout's events.")


class RolloutAction(Model):
    """Body of abort, resume and promote: 409 if `release` is not the rollout's current one. `evidence` of an abort:
    what was measured (rule, value, threshold …), kept with the rollout and told in its event.
    """

    release: str
    reason: str = ""
    evidence: dict[str, JsonValue] = Field({})


class RolloutView(View):
    """`weight` in percent of new visitors; `release`, `state`, `reason` and `at` (since when it is in that state) are
    null if there is no rollout. `evidence`: what an abort was decided on.
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
    """`counts[i]`: requests of at most `le_ms[i]` milliseconds, cumulative; the last bound is +Inf, written as null."""

    le_ms: list[float | None]
    counts: list[int]


class TrackTraffic(View):
    """Monotonic within one epoch: all requests answered by this track's instances, and those with a status ≥ 500."""

    release: str | None
    requests: int
    errors: int
    latency: LatencyHistogram


class TrafficView(View):
    """`share_set` and `share_seen` from 0 to 1; `share_seen` is null before the first request of the epoch."""

    epoch: str
    share_set: float
    share_seen: float | None
    tracks: dict[Track, TrackTraffic]
