"""Counts requests, errors and latencies of each track, from successive readings of Envoy's counters. Pure."""

import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from services.proxy.envoy.admin import Clusters, Latency
from services.proxy.envoy.clusters import cluster_name, split_name
from services.proxy.routes.route import Route
from shared.models import Track
from shared.proxy_models import LatencyHistogram, TrackTraffic, TrafficView

Releases = dict[Track, str | None]
Counters = dict[str, tuple[int, int]]  # address → requests and errors


@dataclass
class TrackCounters:
    """Holds the counts of requests, errors and latencies on both tracks of one app since they last began at 0, which
    `epoch` identifies. `releases` names the release whose requests are counted on each track; `route` is the route from
    which that was last determined. `latency` holds, for each track, the cumulative count of every bucket.
    """

    epoch: str
    route: Route
    releases: Releases
    requests: defaultdict[Track, int] = field(default_factory=lambda: defaultdict(int))
    errors: defaultdict[Track, int] = field(default_factory=lambda: defaultdict(int))
    latency: dict[Track, list[int]] = field(default_factory=dict)


class RequestCounts:
    """Adds up the increases of Envoy's counters between readings, so that requests stay counted after their instance
    has been removed. The first reading only sets the baseline. An app's counts start at 0 again, with a new epoch, when
    Envoy restarts or a track gets another release.
    """

    def __init__(self, new_epoch: Callable[[], str] = lambda: secrets.token_hex(4)) -> None:
        self._new_epoch = new_epoch
        self._tallies: dict[str, TrackCounters] = {}
        self._hosts: dict[str, Counters] = {}
        """The last reading by cluster."""
        self._has_baseline = False
        """True after a reading of all apps: counters of instances that appear later count from 0."""
        self._latencies: dict[str, Latency] | None = None
        self._le_ms: tuple[float, ...] = ()
        self._failing: set[str] = set()

    def reset(self) -> None:
        """Starts all counts at 0 again. To be called after a restart of Envoy, whose counters then also begin at 0."""
        self._tallies.clear()
        self._latencies = {}
        self._hosts = {}
        self._has_baseline = True

    def forget(self, app: str) -> None:
        """Drops the counts of requests of the app."""
        self._tallies.pop(app, None)

    def add_requests(self, routes: Iterable[Route], clusters: Clusters) -> None:
        """Adds the requests and errors since the last reading that instances of each track's current release have
        answered. `routes` holds the routes of the apps that were read.
        """
        counters: dict[str, Counters] = {name: {} for name in clusters.names}
        for host in clusters.hosts:
            counters.setdefault(host.cluster, {})[host.address] = (host.answered, host.errors)
        for route in routes:
            tally = self._tally(route)
            for track, release in tally.releases.items():
                name = cluster_name(route.app, track)
                now = counters.get(name, {})
                before = self._hosts.get(name, {} if self._has_baseline else now)
                for endpoint in route.endpoints[track].values():
                    if endpoint.address in now and endpoint.release == release:
                        answered, errors = _increase(before.get(endpoint.address, (0, 0)), now[endpoint.address])
                        tally.requests[track] += answered
                        tally.errors[track] += errors
        if clusters.of_all_apps:
            self._hosts.clear()  # removes hosts of clusters that no longer exist
            self._has_baseline = True
        self._hosts.update(counters)

    def add_latencies(self, routes: Iterable[Route], clusters: Clusters, latencies: Mapping[str, Latency]) -> None:
        """Adds the latencies since the last reading. If requests of the canary's share fell back to stable in that
        time, its latencies are left out, because Envoy does not tell which instance answered. They are left out at the
        next reading too, because Envoy's histograms are up to 1 s late.
        """
        before = latencies if self._latencies is None else self._latencies
        for route in routes:
            tally = self._tallies.get(route.app)
            if tally is None or (tally.route is not route and tally.releases != _releases(route)):
                continue
            for track in Track:
                _add(tally, track, cluster_name(route.app, track), before, latencies)
            split = split_name(route.app)
            failing = _failed_over(route, clusters, before.get(split), latencies.get(split))
            if not failing and split not in self._failing:
                _add(tally, Track.CANARY, split, before, latencies)
            (self._failing.add if failing else self._failing.discard)(split)
        self._latencies = dict(latencies)
        self._le_ms = next((latency.le_ms for latency in latencies.values()), self._le_ms)

    def view(self, route: Route) -> TrafficView:
        """Returns the app's traffic figures since its counts last began at 0."""
        tally = self._tally(route)
        total = sum(tally.requests.values())
        return TrafficView(
            epoch=tally.epoch,
            share_set=route.split_weight() / 100,
            share_seen=tally.requests[Track.CANARY] / total if total else None,
            tracks={track: self._track(route, track, tally) for track in Track},
        )

    def _track(self, route: Route, track: Track, tally: TrackCounters) -> TrackTraffic:
        counts = tally.latency.get(track) or [0] * len(self._le_ms)
        # Envoy has no bucket above one hour, so +Inf has the same count as the last bucket.
        histogram = LatencyHistogram(le_ms=[*self._le_ms, None], counts=[*counts, counts[-1] if counts else 0])
        return TrackTraffic(
            release=tally.releases[track],
            requests=tally.requests[track],
            errors=tally.errors[track],
            latency=histogram,
        )

    def _tally(self, route: Route) -> TrackCounters:
        tally = self._tallies.get(route.app)
        if tally is not None and tally.route is route:
            return tally
        releases = _releases(route)
        if tally is None or tally.releases != releases:
            tally = self._tallies[route.app] = TrackCounters(self._new_epoch(), route, releases)
        tally.route = route
        return tally


def _releases(route: Route) -> Releases:
    return {track: route.release_of(track) for track in Track}


def _add(
    tally: TrackCounters, track: Track, cluster: str, before: Mapping[str, Latency], after: Mapping[str, Latency]
) -> None:
    if cluster not in after:
        return
    counts = after[cluster].counts
    known = before[cluster].counts if cluster in before else (0,) * len(counts)
    if counts == known:
        return
    sums = tally.latency.setdefault(track, [0] * len(counts))
    for index, (old, new) in enumerate(zip(known, counts, strict=True)):
        sums[index] += max(0, new - old)


def _failed_over(route: Route, clusters: Clusters, before: Latency | None, after: Latency | None) -> bool:
    retried = after is not None and after.retries > (before.retries if before else 0)
    healthy = clusters.healthy(cluster_name(route.app, Track.CANARY))
    return retried or any(endpoint.address not in healthy for endpoint in route.ready(Track.CANARY))


def _increase(before: tuple[int, int], after: tuple[int, int]) -> tuple[int, int]:
    """Returns the increases of (requests, errors). If the number of requests is lower than before, the endpoint is a
    new one, and its counters themselves are returned.
    """
    if after[0] < before[0]:
        return after
    return after[0] - before[0], max(0, after[1] - before[1])
