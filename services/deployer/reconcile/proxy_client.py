"""Calls the proxy service: syncs routes, opens and aborts rollouts, removes routes."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from shared.errors import Problem
from shared.http import ServiceClient
from shared.proxy_models import RolloutAction, RolloutRequest, RouteState, SyncResult

SYNC_TIMEOUT_S = 10.0  # the proxy itself answers within 5 s


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

    async def sync(self, app: str, body: Mapping[str, Any]) -> dict[str, RouteState]:
        """Makes the proxy read the registry. `body` is the JSON of a `SyncRequest`, with the app's host names and
        health path. Returns instance id → the state of its route in Envoy; an instance that is missing in the result
        gets no visitors.
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

    async def sync(self, app: str, body: Mapping[str, Any]) -> dict[str, RouteState]:
        answer = await self._call(f"/apps/{app}/sync", dict(body), (409, 422), SYNC_TIMEOUT_S)
        result = SyncResult.model_validate(answer)
        return {instance_id: route.route for instance_id, route in result.instances.items()}

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
