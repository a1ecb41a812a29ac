"""The route of one app: its hosts, its endpoints per track, its rollout. Pure: `now` is an argument."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from services.proxy.routes.rollout import Rollout
from shared.models import Event, InstanceRecord, InstanceState, RetireRequest, Track, View, release_number
from shared.proxy_models import RouteState

DRAIN_S = 30.0
DEFAULT_WEIGHT = 33


class EndpointState(StrEnum):
    """States of an endpoint in Envoy. An unhealthy one gets visitors only where the track has no other."""

    READY = "ready"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


class Endpoint(View):
    """An instance in Envoy's configuration. `address` is `host:port`; `since`: when it entered its state; `health`: the
    health path of its release, None until a sync has given it; `recorded`: the registry has an entry.
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


class Retirement(View):
    """A retirement that the deployer has not confirmed yet."""

    release: str
    body: RetireRequest


class Route(View):
    """The route of one app. `clusters`: Envoy has the app's clusters, so that a route may name them. `revision` grows
    with each change; `unsent` are events that Redis does not have yet. `earlier`: the rollouts before this one, newest
    first.
    """

    app: str
    hosts: list[str]
    health: str
    catch_all: bool = False
    clusters: bool = False
    endpoints: dict[Track, Endpoints] = Field({track: {} for track in Track})
    enabled: bool = True
    weight: int = DEFAULT_WEIGHT
    rollout: Rollout | None = None
    earlier: list[Rollout] = Field([])
    retirements: list[Retirement] = Field([])
    revision: int = 0
    unsent: list[Event] = Field([])

    def ready(self, track: Track) -> list[Endpoint]:
        """Returns the track's ready endpoints."""
        return [endpoint for endpoint in self.endpoints[track].values() if endpoint.state is EndpointState.READY]

    def serves(self, track: Track) -> bool:
        """Returns whether the track has an endpoint that can serve; an unhealthy instance is better than none."""
        return any(endpoint.state is not EndpointState.DRAINING for endpoint in self.endpoints[track].values())

    @property
    def active_rollout(self) -> Rollout | None:
        """The rollout that is on its way, progressing or paused."""
        return self.rollout if self.rollout is not None and self.rollout.active else None

    def split_weight(self) -> int:
        """Returns the percentage of new visitors that go to the canary now; 0 means that there is no split."""
        both = self.ready(Track.STABLE) and self.serves(Track.CANARY)
        return self.weight if self.active_rollout and self.enabled and both else 0

    def release_of(self, track: Track) -> str | None:
        """Returns the release that the track's figures belong to: the rollout's, else the newest endpoint's."""
        if track is Track.CANARY and self.active_rollout:
            return self.active_rollout.release
        newest = newest_endpoint(self.ready(track) or self.endpoints[track].values())
        return newest.release if newest else None

    def canary_commit(self, release: str) -> str | None:
        """Returns the commit of a canary release if one of its instances is known, else None."""
        canary = self.endpoints[Track.CANARY].values()
        return next((endpoint.commit for endpoint in canary if endpoint.release == release), None)

    def health_of(self, track: Track) -> str:
        """Returns the track's health path: that of its newest ready release.

        So a canary with another path leaves production's checks alone, and a rollback restores the old path.
        """
        newest = newest_endpoint(self.ready(track) or self.endpoints[track].values())
        return (newest.health if newest else None) or self.health


def newest_endpoint(endpoints: Iterable[Endpoint]) -> Endpoint | None:
    """Returns the endpoint of the release with the highest number, or None."""
    return max(endpoints, key=lambda endpoint: (release_number(endpoint.release), endpoint.id), default=None)


def observe(
    known: Endpoints, records: Iterable[InstanceRecord], aborted: frozenset[str], health: str | None, now: datetime
) -> Endpoints:
    """Returns the track's endpoints after a look at the registry.

    Only an explicit state changes an endpoint: one without an entry stays. An instance of an aborted release drains,
    whatever its entry says. `health` is the path that a sync gave for the instances that are new to it; None without a
    sync.
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
    """Sets endpoints of aborted releases to draining; drops those that had left the route (are not in `known`)."""
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
    """Removes draining endpoints that are idle or have drained for 30 s.

    `draining`: ids that Envoy knew as draining before it was read. `active`: requests in flight by address, the
    maximum of several readings; an address that is missing was not seen, which does not mean idle.
    """

    def stays(endpoint: Endpoint) -> bool:
        if endpoint.state is not EndpointState.DRAINING or endpoint.id not in draining:
            return True
        return active.get(endpoint.address) != 0 and (now - endpoint.since).total_seconds() < DRAIN_S

    return {key: endpoint for key, endpoint in endpoints.items() if stays(endpoint)}


def without_replaced(endpoints: Endpoints, claimed: frozenset[str]) -> Endpoints:
    """Removes endpoints that the registry has lost and whose address (`claimed`) another ready instance has by now:
    their visitors would reach the wrong app.
    """
    return {key: item for key, item in endpoints.items() if item.recorded or item.address not in claimed}


def owner_of(routes: Iterable[Route], host: str) -> str | None:
    """Returns the app that has claimed `host`, or None."""
    return next((route.app for route in routes if host in route.hosts), None)


def instance_route(endpoint: Endpoint | None) -> RouteState:
    """Returns how visitors reach the instance: routable, draining or absent."""
    if endpoint is None or endpoint.state is EndpointState.UNHEALTHY:
        return RouteState.ABSENT
    return RouteState.DRAINING if endpoint.state is EndpointState.DRAINING else RouteState.ROUTABLE
