"""Holds the routes and is their only writer: a change goes to memory, disk, Envoy's files, then Redis."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence, Set
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from services.proxy.control.disk_state import AbortedReleases, Snapshot, app_of
from services.proxy.envoy.admin import Clusters, EnvoyAdmin, files_of, version_stat
from services.proxy.envoy.clusters import cluster_name, eds_file, split_name
from services.proxy.envoy.files import EnvoyFiles
from services.proxy.routes.rollout import Rollout, ended, retire_request, rollout_event
from services.proxy.routes.rollout_evidence import evidence, figures
from services.proxy.routes.route import Retirement, Route, drain_aborted
from services.proxy.routes.route_store import RouteStore
from services.proxy.routes.route_table import RouteTable
from shared.errors import NotFound, Timeout, Unavailable
from shared.models import Event, Track
from shared.proxy_models import RolloutState, TrafficView

POLL_S = 0.005
LONGEST_POLL_S = 0.05
ENDPOINTS_FIRST_S = 0.1


class ControlPlane:
    """Holds the routes of all apps. They are changed through `put`, `abort` and `cut_off`, which change them without an
    await. Therefore other tasks never see half a change, and an abort waits for no other call."""

    def __init__(
        self,
        files: EnvoyFiles,
        snapshot: Snapshot,
        aborted: AbortedReleases,
        admin: EnvoyAdmin,
        store: RouteStore,
        traffic: Callable[[Route], TrafficView],
        now: Callable[[], datetime],
        *,
        wake: Callable[[], None],
    ) -> None:
        """Restores the routes from the files of `snapshot`; if there are none, `load` reads them from Redis. `wake` is
        called after each write of changed routes, so that the loop which calls `save` runs at once. `traffic` returns
        an app's traffic figures, for the evidence of a rollout that ends."""
        self.admin = admin
        self.now = now
        self._files = files
        self._snapshot = snapshot
        self._aborted_file = aborted
        self._store = store
        self._traffic = traffic
        self._wake = wake
        self._aborted = aborted.read()
        self._unwritten: set[str] = set()
        """Apps whose route on disk or in Envoy's files is not the newest."""
        self._has_written = True
        """False if the last write failed, as on a full disk: then a call must not succeed before one has worked."""
        self._dirty: set[str] = set()
        """Apps whose route in Redis may not be the newest."""
        self._storing = asyncio.Lock()
        self._routes: RouteTable | None = None
        if (routes := snapshot.read()) is not None:
            self._adopt(routes.values())

    @property
    def routes(self) -> RouteTable:
        """Returns app → route, for all apps. Raises Unavailable until the routes are loaded from disk or Redis."""
        if self._routes is None:
            raise Unavailable("the routes are not known: neither is a copy on disk, nor does Redis answer; start Redis")
        return self._routes

    @property
    def aborted(self) -> Set[str]:
        """Returns the ids of aborted releases, which never get visitors again."""
        return self._aborted.keys()

    def route(self, app: str) -> Route:
        try:
            return self.routes[app]
        except KeyError:
            raise NotFound(f"no release of {app} has been routed yet; release a build of it first") from None

    def put(self, route: Route, *events: Event) -> None:
        """Replaces the app's route; does nothing if `route` equals the present one and there are no events. When this
        returns, the route is on disk and in Envoy's files; a loop then stores it with the events in Redis. The caller
        must make `route` from the result of `route(app)` without an await in between; otherwise a change by another
        task may be lost."""
        if self.routes.get(route.app) == route and not events and self._has_written:
            return
        self._set_route(route, events)
        self._write()

    def put_rollout(self, app: str, *reached: Rollout, **changes: Any) -> None:
        """Replaces the rollout in the app's route by the last of these, and other fields by `changes`. Adds an event
        for each rollout: `reached` holds the states that it passed through."""
        route = self.route(app).model_copy(update={"rollout": reached[-1], **changes})
        self.put(route, *(rollout_event(app, each, route.weight) for each in reached))

    def abort(self, app: str, reason: str) -> Route:
        """Aborts the app's active rollout for good and returns the route. First writes the file `aborted`, then Envoy's
        files; a loop then stores the route in Redis."""
        self._record_abort(app, reason, {})
        self._write()
        return self.routes[app]

    async def cut_off(self, app: str, reason: str, given: dict[str, JsonValue]) -> None:
        """Aborts the app's active rollout for good, so that visitors leave the canary sooner than by `abort`. First
        writes the canary's endpoints as draining, which Envoy accepts within milliseconds, and then the routes, for
        which Envoy takes longer the more apps there are. In between, waits until Envoy has accepted the endpoints, at
        most 0.1 s. `given` is the evidence from the caller."""
        self._record_abort(app, reason, given)
        try:
            changed = [self.routes[each] for each in self._unwritten]
            self._snapshot.spare.lend(lambda: self._snapshot.write(changed))
            self._snapshot.spare.lend(lambda: self._files.write(changed, only_endpoints=True))
            await self._until_accepted(app, eds_file(app, Track.CANARY), ENDPOINTS_FIRST_S)
        finally:
            self._write()

    def evidence(self, route: Route, given: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Returns the evidence for a rollout that ends now: `given` (the caller's measurements) with the last traffic
        figures."""
        assert route.rollout is not None
        return evidence(given, figures(self._traffic(route), route.weight), route.rollout, self.now())

    async def confirm(self, app: str, timeout_s: float, *, healthy: bool = False) -> Clusters:
        """Waits until Envoy has accepted the app's files and, with `healthy`, routes to every ready endpoint. Returns
        Envoy's clusters. After `timeout_s` seconds raises Timeout, whose message says what is missing. If only health
        checks are missing, its field `unhealthy` holds the ids of the instances that fail them; else the field is
        empty. Raises OSError if the files cannot be written."""
        self.write_again()
        deadline = time.monotonic() + timeout_s
        poll_s = POLL_S
        accepted: dict[str, str] = {}
        while True:
            unhealthy: dict[str, str] = {}
            try:
                if self._unaccepted(files_of(app), accepted):  # Envoy searches the versions of all apps to answer this
                    accepted = await self.admin.versions(app)
                missing = self._unaccepted(files_of(app), accepted)
                if not missing:
                    clusters = await self.admin.clusters(app)
                    missing = self._unrouted(app, clusters)
                    if healthy and not missing:
                        unhealthy = clusters.unhealthy(self.route(app))
                        missing = list(unhealthy.values())
                    if not missing:
                        return clusters
            except Unavailable as error:
                missing = [error.detail]
            if time.monotonic() >= deadline:
                detail = f"after {timeout_s:g} s: {'; '.join(missing)}"
                raise Timeout(detail, missing=missing, unhealthy=list(unhealthy))
            await asyncio.sleep(poll_s)
            poll_s = min(poll_s * 1.5, LONGEST_POLL_S)

    @property
    def versions(self) -> dict[str, str]:
        """Returns, for each of Envoy's files, file name → the version last written to disk."""
        return dict(self._files.versions)

    def version(self, app: str) -> str:
        """Returns a hash of the app's whole configuration."""
        versions = " ".join(self._files.versions[name] for name in files_of(app))
        return hashlib.sha256(versions.encode()).hexdigest()[:12]

    async def unaccepted(self) -> list[str]:
        """Returns the files whose newest version Envoy has not accepted. Raises Unavailable if Envoy does not
        answer."""
        accepted = await self.admin.versions()
        return [name for name, version in self._files.versions.items() if accepted.get(version_stat(name)) != version]

    def move_again(self, name: str) -> None:
        """Replaces Envoy's file `name` by one with the same content, so that Envoy reads it again."""
        self._files.move_again(name)

    async def load(self) -> None:
        """Loads the routes from Redis, unless they have been loaded from disk. Raises RedisError."""
        if self._routes is None:
            routes = await self._store.load()
            self._adopt(routes.values())

    async def save(self) -> None:
        """Stores changed routes in Redis. Raises RedisError; the next call then stores the rest."""
        await self.load()
        async with self._storing:
            while self._dirty:
                app = self._dirty.pop()
                route = self.routes[app]
                try:
                    await self._store.save(route)
                except BaseException:
                    self._dirty.add(app)
                    raise
                current = self.routes[app]
                if route.unsent:
                    self._unwritten.add(app)  # the next write to disk also records that these events are stored
                self.routes.put(current.model_copy(update={"unsent": current.unsent[len(route.unsent) :]}))

    async def remove(self, app: str) -> None:
        """Removes the app's route and its aborted releases: from disk, then from Envoy's files, then from Redis. Does
        nothing if there are none. An interrupted call has to be repeated. Raises RedisError."""
        await self.save()  # stores the events of the app's last changes
        async with self._storing:
            self.routes.remove(app)
            self._unwritten.discard(app)
            self._dirty.discard(app)
            self._aborted = {each: why for each, why in self._aborted.items() if app_of(each) != app}
            self._snapshot.remove(app)
            self._files.remove(app)
            self._aborted_file.forget(app)
            await self._store.remove(app)

    async def _until_accepted(self, app: str, name: str, timeout_s: float) -> None:
        """Waits until Envoy has accepted the app's file `name`. Returns without an error after at most `timeout_s`
        seconds, or if Envoy does not answer."""
        with contextlib.suppress(TimeoutError, Unavailable):
            async with asyncio.timeout(timeout_s):
                while True:
                    if not self._unaccepted([name], await self.admin.versions(app)):
                        return
                    await asyncio.sleep(0.001)

    def _unaccepted(self, names: Iterable[str], accepted: dict[str, str]) -> list[str]:
        return [
            f"Envoy runs version {accepted.get(version_stat(name), 'none')} of {name}, not {self._files.versions[name]}"
            for name in names
            if self._files.versions[name] != accepted.get(version_stat(name))
        ]

    def _unrouted(self, app: str, clusters: Clusters) -> list[str]:
        route = self.route(app)
        if not route.clusters:
            names = {split_name(app), *(cluster_name(app, track) for track in Track)}
            if not names <= clusters.names:
                return [f"Envoy has not warmed the clusters of {app}"]
            self.put(route.model_copy(update={"clusters": True}))  # from now on, routes may name the app's clusters
            return [f"Envoy has not accepted the routes of {app}"]
        return []

    def _adopt(self, routes: Iterable[Route]) -> None:
        self._routes = RouteTable(routes)
        self._dirty.update(self._routes)
        self._unwritten.update(self._routes)
        for route in self._routes.busy():
            if (rollout := route.active_rollout) and rollout.release in self._aborted:
                self._set_route(*self._aborted_route(route, self._aborted[rollout.release], {}))
        self._write()

    def _record_abort(self, app: str, reason: str, given: dict[str, JsonValue]) -> None:
        route = self.route(app)
        assert route.rollout is not None
        release = route.rollout.release
        if release not in self._aborted:
            self._snapshot.spare.lend(lambda: self._aborted_file.append(release, reason))
            self._aborted[release] = reason
        self._set_route(*self._aborted_route(route, reason, given))

    def _aborted_route(self, route: Route, reason: str, given: dict[str, JsonValue]) -> tuple[Route, list[Event]]:
        assert route.rollout is not None
        now = self.now()
        rollout = ended(route.rollout, RolloutState.ABORTED, reason, self.evidence(route, given), now)
        canary = route.endpoints[Track.CANARY]
        drained = drain_aborted(canary, self.aborted, canary, now)
        retirement = Retirement(release=rollout.release, body=retire_request(reason))
        update = {
            "rollout": rollout,
            "endpoints": {**route.endpoints, Track.CANARY: drained},
            "retirements": [*route.retirements, retirement],
        }
        return route.model_copy(update=update), [rollout_event(route.app, rollout, route.weight)]

    def _set_route(self, route: Route, events: Sequence[Event]) -> None:
        update = {"revision": route.revision + 1, "unsent": [*route.unsent, *events]}
        self.routes.put(route.model_copy(update=update))
        self._dirty.add(route.app)
        self._unwritten.add(route.app)

    def write_again(self) -> None:
        """Repeats the last write to disk and to Envoy's files, if it failed. Raises OSError."""
        if self._has_written:
            self._snapshot.spare.take()
        else:
            self._write()

    def _write(self) -> None:
        changed, self._has_written = [self.routes[app] for app in self._unwritten], False
        self._snapshot.spare.lend(lambda: self._snapshot.write(changed))
        self._snapshot.spare.lend(lambda: self._files.write(changed))
        self._unwritten.clear()
        self._has_written = True
        self._wake()
