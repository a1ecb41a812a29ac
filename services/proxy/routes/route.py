"""Defines the route of one app: host names, endpoints of production and canary, rollout. Pure: `now` is an argument."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from services.proxy.routes.edge import EdgeSettings
from services.proxy.routes.rollout import Rollout
from shared.canary import DEFAULT_WEIGHT
from shared.clock import lasts
from shared.models import Event, InstanceRecord, InstanceState, RetireRequest, Track, View, release_number
from shared.proxy_models import RouteState, SyncRequest

DRAIN_S = 30.0


class EndpointState(StrEnum):
    """Names the states of an app's instance in Envoy. An unhealthy one gets visitors only if its track (production or
    canary) has no healthy one.
    """

    READY = "ready"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


class Endpoint(View):
    """Describes an app's instance in Envoy's configuration."""

    id: str
    release: str
    commit: str | None = None
    address: str = Field(description="`host:port`")
    state: EndpointState
    since: datetime = Field(description="Time of the last change of `state`.")
    health: str | None = Field(None, description="`run.health` of its release; null until a `sync` has given it.")
    health_host: str = Field("", description="`Host` of its health checks; empty: its address.")
    recorded: bool = Field(True, description="The registry has an entry of the instance.")


Endpoints = dict[str, Endpoint]


class Retirement(View):
    """Records a request to the deployer to retire a release (to drain and end its instances), with its body. It is
    stored until the deployer has confirmed it.
    """

    release: str
    body: RetireRequest


class Route(View):
    """Describes where an app's visitors are sent: the instances of production and canary, and the canary's share.
    `weight` is in percent of new visitors; while `enabled` is false, the canary gets none. `health` is the health
    check, `run.health` of the manifest.
    """

    app: str
    hosts: list[str] = Field(description="The app's default host name, and the manifest's.")
    health: str
    edge: EdgeSettings = EdgeSettings()
    clusters: bool = Field(False, description="Envoy has loaded the app's clusters, so Envoy's routes may name them.")
    endpoints: dict[Track, Endpoints] = Field({track: {} for track in Track})
    enabled: bool = True
    weight: int = DEFAULT_WEIGHT
    rollout: Rollout | None = None
    earlier: list[Rollout] = Field([], description="The rollouts before this one, newest first.")
    retirements: list[Retirement] = Field([])
    revision: int = Field(0, description="Number of changes of the route.")
    unsent: list[Event] = Field([], description="Events that are not stored in Redis yet.")

    @model_validator(mode="before")
    @classmethod
    def _with_edge(cls, data: Any) -> Any:
        """Returns what an earlier version stored with `catch_all` in its present place."""
        if isinstance(data, dict) and data.get("catch_all") and "edge" not in data:
            return {**data, "edge": {"catch_all": True}}
        return data

    @property
    def claims(self) -> frozenset[str]:
        """Returns the host names and wildcards whose requests the app gets; `*` stands for those that no app has."""
        return frozenset([*self.hosts, *self.edge.claims])

    def ready(self, track: Track) -> list[Endpoint]:
        """Returns the endpoints of the track (production or canary) whose instances are ready."""
        return [endpoint for endpoint in self.endpoints[track].values() if endpoint.state is EndpointState.READY]

    def most_ready(self, track: Track) -> int:
        """Returns the highest number of ready endpoints that one release has on the track (production or canary)."""
        return max(Counter(endpoint.release for endpoint in self.ready(track)).values(), default=0)

    def serves(self, track: Track) -> bool:
        """Returns True if the track (production or canary) has an endpoint that is ready or unhealthy, and so can get
        visitors.
        """
        return any(endpoint.state is not EndpointState.DRAINING for endpoint in self.endpoints[track].values())

    @property
    def active_rollout(self) -> Rollout | None:
        """Returns the rollout if it is progressing or paused, else None."""
        return self.rollout if self.rollout is not None and self.rollout.active else None

    @property
    def is_busy(self) -> bool:
        """Returns False if no background loop has anything to do for the route: Envoy has its clusters, no endpoint
        drains, no rollout is active, and the deployer has confirmed all requests to retire releases.
        """
        return not self.clusters or bool(self.active_rollout or self.retirements or self.draining())

    def draining(self) -> frozenset[str]:
        """Returns the ids of the draining endpoints of production and canary."""
        endpoints = (endpoint for track in Track for endpoint in self.endpoints[track].values())
        return frozenset(endpoint.id for endpoint in endpoints if endpoint.state is EndpointState.DRAINING)

    def split_weight(self) -> int:
        """Returns the percentage of new visitors that get the canary now; 0 if visitors are not split at present."""
        both = self.ready(Track.STABLE) and self.serves(Track.CANARY)
        return self.weight if self.active_rollout and self.enabled and both else 0

    def mirror_percent(self) -> int:
        """Returns the percentage of production's GET and HEAD requests of which the canary gets a copy now."""
        rollout = self.active_rollout
        return rollout.mirror if rollout and self.enabled and self.ready(Track.CANARY) else 0

    def release_of(self, track: Track) -> str | None:
        """Returns the release to which the traffic of the track (production or canary) is counted; None if the track
        has no endpoints. For the canary during a rollout, returns the rollout's release; otherwise that of the newest
        endpoint.
        """
        if track is Track.CANARY and self.active_rollout:
            return self.active_rollout.release
        newest = newest_endpoint(self.ready(track) or self.endpoints[track].values())
        return newest.release if newest else None

    def canary_commit(self, release: str) -> str | None:
        """Returns the commit of a canary release, or None if the route has no instance of it."""
        canary = self.endpoints[Track.CANARY].values()
        return next((endpoint.commit for endpoint in canary if endpoint.release == release), None)

    def health_of(self, track: Track) -> str:
        """Returns the health check (`run.health`) by which Envoy checks the endpoints of the track (production or
        canary): that of the track's newest ready release or, without one, that of the route.
        """
        newest = newest_endpoint(self.ready(track) or self.endpoints[track].values())
        return self.health if newest is None or newest.health is None else newest.health


def newest_endpoint(endpoints: Iterable[Endpoint]) -> Endpoint | None:
    """Returns an endpoint of the newest release (highest number), or None if there are no endpoints."""
    return max(endpoints, key=lambda endpoint: (release_number(endpoint.release), endpoint.id), default=None)


def observe(
    known: Endpoints, records: Iterable[InstanceRecord], aborted: Set[str], sync: SyncRequest | None, now: datetime
) -> Endpoints:
    """Returns the endpoints of one track (production or canary): those in `known`, updated by the registry's `records`.
    An endpoint without a record stays as it is. Instances of `aborted` releases become draining, whatever their record
    says. New endpoints get the health check of `sync`, the deployer's request; if that is None, they get none.
    """
    result = {key: endpoint.model_copy(update={"recorded": False}) for key, endpoint in known.items()}
    for record in records:
        old = known.get(record.id)
        state = _endpoint_state(record.state, old)
        if state is None:
            result.pop(record.id, None)
            continue
        check = old if old and old.health is not None else sync
        result[record.id] = Endpoint(
            id=record.id,
            release=record.release,
            commit=record.commit,
            address=record.address,
            state=state,
            since=old.since if old and old.state is state else now,
            health=check.health if check else None,
            health_host=check.health_host if check else "",
        )
    return drain_aborted(result, aborted, known, now)


def _endpoint_state(state: InstanceState, known: Endpoint | None) -> EndpointState | None:
    if state is InstanceState.READY:
        return EndpointState.READY
    if known is not None and state in (InstanceState.UNHEALTHY, InstanceState.DRAINING):
        return EndpointState(state)
    return None


def drain_aborted(endpoints: Endpoints, aborted: Set[str], known: Endpoints, now: datetime) -> Endpoints:
    """Returns the endpoints, with those of `aborted` releases set to draining. An endpoint of an aborted release that
    is not in `known` (the endpoints before) is left out, because it had already left the route.
    """
    result: Endpoints = {}
    for key, endpoint in endpoints.items():
        if endpoint.release in aborted:
            old = known.get(key)
            if old is None:
                continue
            since = old.since if old.state is EndpointState.DRAINING else now
            endpoint = endpoint.model_copy(update={"state": EndpointState.DRAINING, "since": since})
        result[key] = endpoint
    return result


def without_drained(
    endpoints: Endpoints, draining: frozenset[str], active: Mapping[str, int], now: datetime
) -> Endpoints:
    """Returns the endpoints without those that have drained: they have no request in flight, or began to drain 30 s
    ago. Removes only endpoints whose ids are in `draining`; Envoy must have accepted them as draining before `active`
    was read. `active` holds address → highest number of requests in flight over several readings; an address that is
    missing there counts as busy.
    """

    def stays(endpoint: Endpoint) -> bool:
        if endpoint.state is not EndpointState.DRAINING or endpoint.id not in draining:
            return True
        return active.get(endpoint.address) != 0 and lasts(endpoint.since, DRAIN_S, now)

    return {key: endpoint for key, endpoint in endpoints.items() if stays(endpoint)}


def without_replaced(endpoints: Endpoints, claimed: Callable[[str], bool]) -> Endpoints:
    """Returns the endpoints without those that have no registry entry and whose address now belongs to another ready
    instance (`claimed` returns True for the address), because Envoy would send their visitors to another app.
    """
    return {key: item for key, item in endpoints.items() if item.recorded or not claimed(item.address)}


def instance_route(endpoint: Endpoint | None) -> RouteState:
    """Returns the state of the route for the answer of `sync`: routable, draining, or absent (the endpoint is unhealthy
    or missing).
    """
    if endpoint is None or endpoint.state is EndpointState.UNHEALTHY:
        return RouteState.ABSENT
    return RouteState.DRAINING if endpoint.state is EndpointState.DRAINING else RouteState.ROUTABLE
