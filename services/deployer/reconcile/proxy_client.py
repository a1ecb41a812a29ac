"""Calls the proxy service: syncs routes, opens and aborts rollouts."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from shared.errors import Problem
from shared.http import ServiceClient
from shared.proxy_models import RolloutAction, RolloutRequest, RouteState, SyncResult

SYNC_TIMEOUT_S = 10.0  # the proxy itself answers within 5 s


class ProxyRefused(Exception):
    """Raised if the proxy refuses the call and a retry does not help; the message says why."""

    def __init__(self, detail: str, *, is_conflict: bool = True) -> None:
        super().__init__(detail)
        self.is_conflict = is_conflict
        """False if the proxy did not understand the call."""


class NotYet(Exception):
    """Raised if the proxy does not answer, or the call has no effect yet; repeat the call."""

    def __init__(self, detail: str, unhealthy: Iterable[str] = ()) -> None:
        super().__init__(detail)
        self.unhealthy = frozenset(unhealthy)
        """Ids of the instances that do not pass Envoy's health check, if that is all that is missing; else empty, and
        proxy or Envoy are in trouble.
        """


class Proxy(Protocol):
    """Defines the interface to the proxy service. Every call is idempotent and raises ProxyRefused or NotYet."""

    async def sync(self, app: str, body: Mapping[str, Any]) -> dict[str, RouteState]:
        """Makes the proxy read the registry. `body` holds hosts and health path (`SyncRequest`). Returns the state of
        each instance in Envoy's routes, by id; an instance that is missing there gets no visitors.
        """
        ...

    async def open_rollout(self, app: str, release: str, weight: int, notify: list[str]) -> None:
        """Opens the rollout of a canary release; `weight` is the percentage of new visitors, `notify` the addresses for
        messages about it. Raises ProxyRefused if the release was aborted meanwhile.
        """
        ...

    async def abort_rollout(self, app: str, release: str, reason: str) -> None:
        """Aborts the rollout of a release. Raises ProxyRefused if it has no current rollout."""
        ...


class ProxyService:
    """`Proxy` over the proxy's REST API."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    async def sync(self, app: str, body: Mapping[str, Any]) -> dict[str, RouteState]:
        answer = await self._call(f"/apps/{app}/sync", dict(body), (409, 422), SYNC_TIMEOUT_S)
        result = SyncResult.model_validate(answer)
        return {instance_id: route.route for instance_id, route in result.instances.items()}

    async def open_rollout(self, app: str, release: str, weight: int, notify: list[str]) -> None:
        request = RolloutRequest(release=release, weight=weight, notify=notify)
        await self._call(f"/apps/{app}/rollout", request.model_dump(), (409,))

    async def abort_rollout(self, app: str, release: str, reason: str) -> None:
        action = RolloutAction(release=release, reason=reason)
        await self._call(f"/apps/{app}/rollout/abort", action.model_dump(), (404, 409))

    async def _call(self, path: str, body: dict[str, Any], refusals: tuple[int, ...], timeout_s: float = 5.0) -> Any:
        try:
            return await self._client.post(path, body, timeout_s=timeout_s)
        except Problem as problem:
            if problem.status in refusals:
                raise ProxyRefused(problem.detail, is_conflict=problem.status == 409) from problem
            missing = problem.extra.get("missing") or [problem.detail]
            raise NotYet("; ".join(missing), problem.extra.get("unhealthy", ())) from problem
