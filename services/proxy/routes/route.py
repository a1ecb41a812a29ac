"""What the proxy knows of one app: its hosts, its endpoints per track, its rollout. Pure: `now` is an argument."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from services.proxy.routes.rollout import Rollout, release_number
from shared.models import Event, InstanceRecord, InstanceState, RetireRequest, Track, View
from shared.proxy_models import RouteState

DRAIN_S = 30.0
DEFAULT_WEIGHT = 33


class EndpointState(StrEnum):
    """What Envoy is told of an endpoint. An unhealthy one gets visitors only where the track has no other."""

    READY = "ready"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


class Endpoint(View):
    """An instance in Envoy's configuration. `address` is `host:port`; `since`: when it came into its state; `health`:
    the path of the release that brought it, None until a sync has told it; `recorded`: the registry has an entry.
    """

    id: str
    release: str
    commit: str | None = None
    address: str
    state: EndpointState
    since: datetime
    health: str | None = None
    recorded: bool = True


Endpoints = dict[str, Endpoint]


def no_endpoints() -> dict[Track, Endpoints]:
    """Of both tracks."""
    return {track: {} for track in Track}


class Retirement(View):
    """What the deployer still has to be told."""

    release: str
    body: RetireRequest


class Route(View):
    """One app. `clusters`: Envoy has had the app's clusters, so that a route may name them. `revision` grows with each
    change; `unsent` are events which Redis does not have yet. `earlier`: the rollouts before this one, newest first.
    """

    app: str
    hosts: list[str]
    health: str
    catch_all: bool = False
    clusters: bool = False
    endpoints: dict[Track, Endpoints] = Field(default_factory=no_endpoints)
    enabled: bool = True
    weight: int = DEFAULT_WEIGHT
    rollout: Rollout | None = None
    earlier: list[Rollout] = Field(default_factory=list)
    retirements: list[Retirement] = Field(default_factory=list)
    revision: int = 0
    unsent: list[Event] = Field(default_factory=list)

    def ready(self, track: Track) -> list[Endpoint]:
        """Endpoints that visitors may be sent to."""
        return [endpoint for endpoint in self.endpoints[track].values() if endpoint.state is EndpointState.READY]

    def serves(self, track: Track) -> bool:
        """Whether the track has anything to send visitors to; an unhealthy instance is better than none."""
        return any(endpoint.state is not EndpointState.DRAINING for endpoint in self.endpoints[track].values())

    @property
    def canary_open(self) -> bool:
        """Whether anybody may reach the canary: by share, override header or its own port."""
        return self.serves(Track.CANARY)

    def split_weight(self) -> int:
        """Percent of new visitors that go to the canary at this moment; 0 means that there is no split."""
        running = self.rollout is not None and self.rollout.active and self.enabled
        both = self.ready(Track.STABLE) and self.serves(Track.CANARY)
        return self.weight if running and both else 0

    def release_of(self, track: Track) -> str | None:
        """The release whose figures are the track's: the rollout's, or else that of the newest endpoint."""
        if track is Track.CANARY and self.rollout is not None and self.rollout.active:
            return self.rollout.release
        newest = newest_endpoint(self.ready(track) or self.endpoints[track].values())
        return newest.release if newest else None

    def canary_commit(self, release: str) -> str | None:
        """The commit of a canary release, if an instance of it is known."""
        canary = self.endpoints[Track.CANARY].values()
        return next((endpoint.commit for endpoint in canary if endpoint.release == release), None)

    def health_of(self, track: Track) -> str:
        """The track's health path: that of its newest ready release, so that a canary with another one leaves
        production's checks alone, and a rollback brings the old path back.
        """
        newest = newest_endpoint(self.ready(track) or self.endpoints[track].values())
        return (newest.health if newest else None) or self.health


def newest_endpoint(endpoints: Iterable[Endpoint]) -> Endpoint | None:
    """The endpoint of the youngest release, by its number."""
    return max(endpoints, key=lambda endpoint: (release_number(endpoint.release), endpoint.id), default=None)


def observe(
    known: Endpoints, records: Iterable[InstanceRecord], aborted: frozenset[str], health: str | None, now: datetime
) -> Endpoints:
    """The track's endpoints after a look at the registry.

    Only an explicit state changes one: what has no entry stays. An instance of an aborted release drains, whatever its
    entry says. `health` is what a sync told for the instances that are new to it; None when nobody told.
    """
    result = {key: endpoint.model_copy(update={"recorded": False}) for key, endpoint in known.items()}
    for record in records:
        old = known.get(record.id)
        state = _endpoint_state(record.state, old)
        if state is None:
            result.pop(record.id, None)
            continue
        result[record.id] = Endpoint(
            id=record.id,
            release=record.release,
            commit=record.commit,
            address=record.address,
            state=state,
            since=old.since if old and old.state is state else now,
            health=(old.health if old else None) or health,
        )
    return drain_aborted(result, aborted, known, now)


def _endpoint_state(state: InstanceState, known: Endpoint | None) -> EndpointState | None:
    if state is InstanceState.READY:
        return EndpointState.READY
    if known is not None and state in (InstanceState.UNHEALTHY, InstanceState.DRAINING):
        return EndpointState(state)
    return None


def drain_aborted(endpoints: Endpoints, aborted: frozenset[str], known: Endpoints, now: datetime) -> Endpoints:
    """Endpoints of aborted releases drain; one that had left the route (is not in `known`) does not come back."""
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


def without_drained(endpoints: Endpoints, told: frozenset[str], active: Mapping[str, int], now: datetime) -> Endpoints:
    """Leaves out draining endpoints that are idle or have drained for 30 s. `told`: the ids that Envoy knew to drain
    before it was looked at; `active`: requests in flight by address, the most of several looks; what is not in it was
    not seen, which is not idle.
    """

    def stays(endpoint: Endpoint) -> bool:
        if endpoint.state is not EndpointState.DRAINING or endpoint.id not in told:
            return True
        return active.get(endpoint.address) != 0 and (now - endpoint.since).total_seconds() < DRAIN_S

    return {key: endpoint for key, endpoint in endpoints.items() if stays(endpoint)}


def without_replaced(endpoints: Endpoints, claimed: frozenset[str]) -> Endpoints:
    """Leaves out endpoints that the registry has lost and whose address (`claimed`) another ready instance has by now:
    visitors would be sent to a stranger.
    """
    return {key: item for key, item in endpoints.items() if item.recorded or item.address not in claimed}


def owner_of(routes: Iterable[Route], host: str) -> str | None:
    """The app that has claimed `host`."""
    return next((route.app for route in routes if host in route.hosts), None)


def instance_route(endpoint: Endpoint | None) -> RouteState:
    """What visitors get of an instance."""
    if endpoint is None or endpoint.state is EndpointState.UNHEALTHY:
        return RouteState.ABSENT
    return RouteState.DRAINING if endpoint.state is EndpointState.DRAINING else RouteState.ROUTABLE
