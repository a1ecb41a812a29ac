"""Probes the health path of instances: 4 times a second until they are ready, then every 0.9 s.

A hanging instance is detected after 2.7 to 3.6 s: after three time-outs, and up to 0.9 s before the first. With an
interval of 1 s this would be 4 s.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from services.deployer.plan.observe import MISSES_ALLOWED, InstanceHealth
from services.deployer.releases.environment import EnvironmentId

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeTarget:
    """An instance to probe."""

    address: str
    """`host:port`."""
    path: str
    """The health path, with its leading slash."""
    is_new: bool
    """True until it is ready. Interval and time-out are 0.25 s and 5 s for a new instance, later 0.9 s both."""

    @property
    def every_s(self) -> float:
        return 0.25 if self.is_new else 0.9

    @property
    def timeout_s(self) -> float:
        return 5.0 if self.is_new else 0.9


class Prober:
    """Probes each instance in a task. `on_change` is called when a probe succeeds after a failure or fails after a
    success, and at the third failure in a row.
    """

    def __init__(self, on_change: Callable[[EnvironmentId], None]) -> None:
        self._on_change = on_change
        # A kept connection would occupy an app that serves one connection at a time.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncClient(limits=limits, trust_env=False)
        self._targets: dict[EnvironmentId, dict[str, ProbeTarget]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._health: dict[str, InstanceHealth] = {}

    def follow(self, environment_id: EnvironmentId, targets: Mapping[str, ProbeTarget]) -> None:
        """Probes exactly `targets` (by instance id) in this environment from now on; forgets its other instances."""
        for gone in self._targets.get(environment_id, {}).keys() - targets.keys():
            self._tasks.pop(gone).cancel()
            self._health.pop(gone, None)
        self._targets[environment_id] = dict(targets)
        for instance_id in targets.keys() - self._tasks.keys():
            self._tasks[instance_id] = asyncio.create_task(self._probe(environment_id, instance_id))

    def health(self) -> Mapping[str, InstanceHealth]:
        """Returns the health, by id, of the instances that were probed at least once."""
        return self._health

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._http.aclose()

    async def _probe(self, environment_id: EnvironmentId, instance_id: str) -> None:
        while True:
            target = self._targets[environment_id][instance_id]
            started = time.monotonic()
            detail = await self._ask(target)
            before = self._health.get(instance_id)
            misses = 0 if detail is None else (before.misses if before else 0) + 1
            self._health[instance_id] = InstanceHealth(misses, detail or f"GET {target.path} answered")
            if (misses == 0) != (before is not None and before.misses == 0) or misses == MISSES_ALLOWED + 1:
                self._on_change(environment_id)
            await asyncio.sleep(max(0.0, started + target.every_s - time.monotonic()))

    async def _ask(self, target: ProbeTarget) -> str | None:
        """Returns what is wrong with the answer, in words for people; None for a status 2xx in time."""
        url = f"http://{target.address}{target.path}"
        try:
            async with asyncio.timeout(target.timeout_s):
                answer = await self._http.get(url, timeout=target.timeout_s)
        except TimeoutError:
            return f"GET {target.path}: no answer within {target.timeout_s:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return f"GET {target.path}: {type(error).__name__}: {error}"
        return None if answer.is_success else f"GET {target.path} answered {answer.status_code}"
