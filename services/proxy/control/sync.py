"""Applies the registry's instances to the routes, when the deployer requests it, and periodically."""

import asyncio
import time
from collections import defaultdict

from pydantic import ValidationError

from services.proxy.control.control_plane import ControlPlane
from services.proxy.control.envoy_loops import for_each
from services.proxy.counting.request_counts import RequestCounts
from services.proxy.envoy.admin import Clusters
from services.proxy.envoy.clusters import cluster_name
from services.proxy.envoy.limits import FileLimit
from services.proxy.routes.host_names import checked, default_host, normalised, without_host
from services.proxy.routes.route import (
    Route,
    cut_requests,
    instance_route,
    observe,
    without_drained,
    without_replaced,
)
from shared.errors import Conflict, Timeout, Unavailable
from shared.models import InstanceRecord, Track
from shared.proxy_models import InstanceRoute, SyncRequest, SyncResult
from shared.registry import Registry

CONFIRM_S = 5.0
SETTLE_S = 0.01
IDLE_READINGS = 3
POLL_S = 0.005
ALL_EVERY = 30
LONG_S = 10  # what still drains then are long requests, whose end is noticed less often
LONG_EVERY = 10

Records = dict[Track, list[InstanceRecord]]


class RegistrySync:
    """Applies the registry's instances to the routes. Calls for one app run one after the other. `step` reads the apps
    that the registry names as changed and, every 30th time, all apps, because an earlier version of the deployer does
    not record changes. Each app has the host name `<app>.<domain>`; `limit` bounds the number of instances.
    """

    def __init__(
        self, control: ControlPlane, registry: Registry, counts: RequestCounts, domain: str, limit: FileLimit
    ) -> None:
        self._limit = limit
        self._control = control
        self._registry = registry
        self._counts = counts
        self._domain = domain
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._position = ""
        self._steps = self._drain_steps = 0
        self._unread: set[str] = set()
        """Apps whose instances may have changed since they were read."""

    async def sync(self, app: str, request: SyncRequest) -> SyncResult:
        """Stores the host names and the health check of `request`, applies the registry's instances, and returns when
        Envoy routes to them. Raises Conflict if another app has one of the hosts, and for a new app if Envoy may not
        open enough files for its instances. Raises Invalid for a malformed host, and RedisError if the registry does
        not answer; in all these cases nothing is changed. Raises Timeout if Envoy has not accepted the change within 5
        s; another call then waits further.
        """
        async with self._locks[app]:
            records = await self._read(app)
            # No await from here on: Envoy would refuse all routes if two apps claimed one host.
            hosts = self._hosts(app, request.hosts)
            route = self._control.routes.get(app) or self._new_route(app, hosts, request.health)
            self._take_default_host(app)
            self._observe(route.model_copy(update={"hosts": hosts, "health": request.health}), records, request)
            self._drop_replaced()
        deadline = time.monotonic() + CONFIRM_S
        clusters = await self._control.confirm(app, CONFIRM_S, healthy=True)
        if await self._remove_drained(app):
            clusters = await self._control.confirm(app, deadline - time.monotonic(), healthy=True)
        return self._result(app, records, clusters)

    async def remove(self, app: str) -> bool:
        """Removes the app's route, and returns when Envoy has accepted that, whether there was one. Raises
        Conflict while the registry has instances of the app, RedisError if the registry does not answer, and Timeout if
        Envoy has not accepted the change within 5 s; the caller may then call again.
        """
        async with self._locks[app]:
            if left := [record.id for records in (await self._read(app)).values() for record in records]:
                raise Conflict(f"{app} has instances: {', '.join(left)}; the deployer ends them first")
            existed = app in self._control.routes
            await self._control.remove(app)
            self._counts.forget(app)
            self._unread.discard(app)
        deadline = time.monotonic() + CONFIRM_S
        while missing := await self._control.unaccepted():
            if time.monotonic() >= deadline:
                raise Timeout(f"after {CONFIRM_S:g} s Envoy has not accepted {', '.join(missing)}", missing=missing)
            await asyncio.sleep(SETTLE_S)
        return existed

    async def limit_warning(self) -> str | None:
        """Returns a warning, with the remedy, if Envoy may not open enough files for many more instances; else None."""
        return self._limit.warning(self._instances())

    async def step(self) -> None:
        """Applies the registry's changes to the routes. Raises RedisError; the next call then reads these changes
        again.
        """
        routes = self._control.routes
        changed, self._position = await self._registry.changed_apps(self._position)
        self._steps += 1
        if changed is None or self._steps % ALL_EVERY == 0:
            changed = frozenset(routes)
        self._unread |= changed & routes.keys()

        async def observe_app(app: str) -> None:
            async with self._locks[app]:
                records = await self._read(app)
                if app in self._control.routes:  # the app may have been removed in the meantime
                    self._observe(self._control.route(app), records, None)
                self._unread.discard(app)

        try:
            await for_each(sorted(self._unread), observe_app)
        finally:
            self._drop_replaced()

    async def drain_step(self) -> None:
        """Removes, from the routes of all apps, the draining endpoints that have no request in flight, or whose time to
        drain is over. Needs no Redis. For an app whose endpoints have all drained for 10 s, only each tenth call does
        so.
        """
        self._drain_steps += 1
        now = self._control.now()

        async def drain_app(app: str) -> None:
            await self._control.confirm(app, CONFIRM_S)
            await self._remove_drained(app)

        is_each = self._drain_steps % LONG_EVERY == 0
        routes = [route for route in self._control.routes.busy() if is_each or route.has_begun_to_drain(LONG_S, now)]
        await for_each([route.app for route in routes if route.draining()], drain_app)

    async def _read(self, app: str) -> Records:
        try:
            return await self._registry.instances_of(app)
        except ValidationError as error:
            raise Unavailable(f"the registry's entries of {app} cannot be read; nothing was changed") from error

    def _new_route(self, app: str, hosts: list[str], health: str) -> Route:
        if why := self._limit.refusal(self._instances()):
            raise Conflict(f"{app} is a new app, for which there is no room: {why}")
        return Route(app=app, hosts=hosts, health=health)

    def _instances(self) -> int:
        return sum(len(endpoints) for route in self._control.routes.values() for endpoints in route.endpoints.values())

    def _observe(self, route: Route, records: Records, request: SyncRequest | None) -> None:
        now = self._control.now()
        aborted = self._control.aborted
        endpoints = {track: observe(route.endpoints[track], records[track], aborted, request, now) for track in Track}
        recorded = {record.id for entries in records.values() for record in entries}
        cut = {each: requests for each, requests in route.cut.items() if each in recorded}
        self._control.put(route.model_copy(update={"endpoints": endpoints, "cut": cut}))

    def _drop_replaced(self) -> None:
        """Removes, from the routes of all apps, the endpoints whose address now belongs to another instance."""
        claimed = self._control.routes.claimed
        for route in self._control.routes.replaced():
            endpoints = {track: without_replaced(route.endpoints[track], claimed) for track in Track}
            self._control.put(route.model_copy(update={"endpoints": endpoints}))

    async def _remove_drained(self, app: str) -> bool:
        """Removes the app's draining endpoints that have no request in flight, or have been draining for 30 s; returns
        True if there were any. Before the call, Envoy must have accepted that they are draining.
        """
        draining = self._control.route(app).draining()
        if not draining:
            return False
        await asyncio.sleep(SETTLE_S)  # the admin reports the main thread; Envoy's workers follow it within 6 ms
        readings = [await self._control.admin.clusters(app)]
        while len(readings) < IDLE_READINGS:
            await asyncio.sleep(POLL_S)
            readings.append(await self._control.admin.clusters(app))
        route = self._control.route(app)
        now = self._control.now()
        endpoints, cut = {}, dict(route.cut)
        for track in Track:
            active = _most_active(readings, app, track)
            endpoints[track] = without_drained(route.endpoints[track], draining, active, now)
            cut |= cut_requests(route.endpoints[track], endpoints[track], active)
        self._control.put(route.model_copy(update={"endpoints": endpoints, "cut": cut}))
        return endpoints != route.endpoints

    def _hosts(self, app: str, asked: list[str]) -> list[str]:
        """Returns the app's host names by its manifest. It keeps one that it has already, even if an earlier version
        would no longer be allowed to take it, until the app of that name is released.
        """
        default = default_host(app, self._domain)
        routes = self._control.routes
        kept = {default, *(routes[app].hosts if app in routes else [])}
        hosts = (normalised(host) for host in asked)
        return sorted(
            {default, *(host if host in kept else checked("hosts", host, app, self._domain, routes) for host in hosts)}
        )

    def _take_default_host(self, app: str) -> None:
        """Takes the app's default host name from the app that has it, by an earlier version or another domain."""
        host = default_host(app, self._domain)
        if (owner := self._control.routes.owner_of(host)) not in (None, app):
            self._control.put(without_host(self._control.route(owner), host))

    def _result(self, app: str, records: Records, clusters: Clusters) -> SyncResult:
        route = self._control.route(app)
        instances: dict[str, InstanceRoute] = {}
        for track in Track:
            active = clusters.active(cluster_name(app, track))
            known = route.endpoints[track]
            for key in sorted({*known, *(record.id for record in records[track])}):
                endpoint = known.get(key)
                in_flight = active.get(endpoint.address, 0) if endpoint else 0
                instances[key] = InstanceRoute(
                    route=instance_route(endpoint), active=in_flight, cut=route.cut.get(key, 0)
                )
        return SyncResult(version=self._control.version(app), instances=instances)


def _most_active(readings: list[Clusters], app: str, track: Track) -> dict[str, int]:
    """Returns address → the highest number of requests in flight in any of the readings. An address that is missing in
    one of them is left out.
    """
    active = [reading.active(cluster_name(app, track)) for reading in readings]
    seen = set.intersection(*(set(reading) for reading in active))
    return {address: max(reading[address] for reading in active) for address in seen}
