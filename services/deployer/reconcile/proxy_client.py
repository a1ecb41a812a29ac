"""Calls the proxy service: syncs routes, opens and aborts rollouts, removes routes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.deployer.plan.observe import WAITS_FOR_PROXY, World, routes_but
from shared.errors import Problem
from shared.http import ServiceClient
from shared.proxy_models import InstanceRoute, RolloutAction, RolloutRequest, RouteState, SyncResult

SYNC_TIMEOUT_S = 10.0  # the proxy waits for Envoy for up to 5 s, and at a removal for its log
RARER = 20  # the longer instances drain, the longer the pauses: a 20th of it, up to
LONGEST_PAUSE_S = 1.0


class ProxyRefused(Exception):
    """Reports that the proxy refuses a call and that a retry would not help; the message says why."""

    def __init__(self, detail: str, *, is_conflict: bool = True) -> None:
        super().__init__(detail)
        self.is_conflict = is_conflict
        """False if the proxy did not understand the call."""


class NotYet(Exception):
    """Reports that the proxy does not answer, or that a call has no effect yet; the caller should repeat it."""

    def __init__(self, detail: str, unhealthy: Iterable[str] = ()) -> None:
        super().__init__(detail)
        self.unhealthy = frozenset(unhealthy)
        """Ids of the instances that do not pass Envoy's health check, if that is all that is missing; else empty, and
        proxy or Envoy are in trouble.
        """


class Proxy(Protocol):
    """Defines the interface to the proxy service. Every call is idempotent and raises ProxyRefused or NotYet."""

    async def sync(self, app: str, body: Mapping[str, Any]) -> dict[str, InstanceRoute]:
        """Makes the proxy read the registry. `body` is the JSON of a `SyncRequest`, with the app's host names and
        health path. Returns instance id → its route in Envoy; an instance that is missing in the result gets no
        visitors.
        """
        ...

    async def open_rollout(self, app: str, request: RolloutRequest) -> None:
        """Opens the rollout of a canary release. Raises ProxyRefused if the rollout has been aborted."""
        ...

    async def abort_rollout(self, app: str, release: str, reason: str) -> None:
        """Aborts the rollout of a release. Raises ProxyRefused if the release has no open rollout."""
        ...

    async def remove_route(self, app: str) -> None:
        """Removes the app's route and everything else that the proxy stores for the app. Raises ProxyRefused while the
        registry has instances of the app.
        """
        ...


class ProxyService:
    """Implements `Proxy` with calls of the proxy's REST API."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    async def sync(self, app: str, body: Mapping[str, Any]) -> dict[str, InstanceRoute]:
        answer = await self._call(f"/apps/{app}/sync", dict(body), (409, 422), SYNC_TIMEOUT_S)
        return SyncResult.model_validate(answer).instances

    async def open_rollout(self, app: str, request: RolloutRequest) -> None:
        await self._call(f"/apps/{app}/rollout", request.model_dump(), (409,))

    async def abort_rollout(self, app: str, release: str, reason: str) -> None:
        action = RolloutAction(release=release, reason=reason)
        await self._call(f"/apps/{app}/rollout/abort", action.model_dump(), (404, 409))

    async def remove_route(self, app: str) -> None:
        try:
            await self._client.call("DELETE", f"/apps/{app}/route", timeout_s=SYNC_TIMEOUT_S)
        except Problem as problem:
            if problem.status == 409:
                raise ProxyRefused(problem.detail) from problem
            raise NotYet(problem.detail) from problem

    async def _call(self, path: str, body: dict[str, Any], refusals: tuple[int, ...], timeout_s: float = 5.0) -> Any:
        try:
            return await self._client.post(path, body, timeout_s=timeout_s)
        except Problem as problem:
            if problem.status in refusals:
                raise ProxyRefused(problem.detail, is_conflict=problem.status == 409) from problem
            missing = problem.extra.get("missing") or [problem.detail]
            raise NotYet("; ".join(missing), problem.extra.get("unhealthy", ())) from problem


@dataclass(frozen=True)
class SyncAnswer:
    """Holds what a sync of the proxy has said; `World` describes the fields."""

    routes: Mapping[str, RouteState] | None = None
    cut: Mapping[str, int] = field(default_factory=dict)
    waits_for: str = ""
    refused: str = ""
    is_away: bool = False
    """True if the proxy or Envoy is unavailable."""


async def sync_answer(proxy: Proxy, app: str, body: Mapping[str, Any], world: World) -> SyncAnswer:
    """Makes the proxy read the registry, and returns what it says about the app's instances, whether well or not."""
    try:
        routes = await proxy.sync(app, body)
    except NotYet as problem:
        waits_for = f"{WAITS_FOR_PROXY}{problem}"
        return SyncAnswer(routes_but(problem.unhealthy, world), waits_for=waits_for, is_away=not problem.unhealthy)
    except ProxyRefused as problem:
        refused = f"the proxy refuses the route: {problem}"
        # The proxy never refuses an app's own default host, once the app has a route.
        is_hopeless = problem.is_conflict and len(body["hosts"]) == 1
        return SyncAnswer({} if is_hopeless else None, waits_for=refused, refused=refused)
    cut = {instance_id: route.cut for instance_id, route in routes.items() if route.cut}
    return SyncAnswer({instance_id: route.route for instance_id, route in routes.items()}, cut)


def sync_pause_s(shortest_s: float, since_s: float) -> float:
    """Returns how long to wait before the next sync of the proxy while instances drain, whose entries in the registry
    were changed `since_s` seconds ago.
    """
    return max(shortest_s, min(LONGEST_PAUSE_S, since_s / RARER))
