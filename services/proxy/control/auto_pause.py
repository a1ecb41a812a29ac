"""Pauses rollouts while the deployer does not answer, and resumes them afterwards."""

import asyncio
from collections.abc import Awaitable, Callable

from services.proxy.control.control_plane import ControlPlane
from services.proxy.routes.deployer_liveness import (
    SILENT_AT_START_S,
    SILENT_S,
    DeployerLiveness,
    after_probe,
    paused_or_resumed,
)
from shared.errors import Problem
from shared.http import ServiceClient
from shared.runtime.loops import cancel
from shared.runtime.punctual import punctual_wait

PROBE_S = 1.5
UNBOUND_S = 60.0


async def answers(deployer: ServiceClient) -> bool:
    """Returns True if the deployer's `/health` answers within 1.5 s, not counting time by which this process itself was
    delayed. The deployer needs no Redis for that answer. Up to 1 s may go into looking up the deployer's address if the
    registry is unavailable.
    """
    asking = asyncio.create_task(deployer.get("/health", timeout_s=UNBOUND_S, repeatable=False))
    try:
        await punctual_wait(asking, PROBE_S)
        if not asking.done():
            return False
        asking.result()
    except Problem:
        return False
    finally:
        await cancel([asking])
    return True


class AutoPause:
    """Pauses progressing rollouts while the deployer does not answer, and afterwards resumes those that it has paused.
    `probe` sends the deployer a request, and returns True if the deployer answered.
    """

    def __init__(self, control: ControlPlane, probe: Callable[[], Awaitable[bool]]) -> None:
        self._control = control
        self._probe = probe
        self._liveness: DeployerLiveness | None = None
        self._silent_s = SILENT_AT_START_S

    async def step(self) -> None:
        """Probes the deployer once. Pauses progressing rollouts if at least two probes have failed since the last
        answer, which was at least 5 s ago (15 s if there was none since this service started). Resumes the rollouts
        that it has paused once every probe of 2 s was answered. If no rollout is active, does not probe, and forgets
        earlier results.
        """
        if not any(route.active_rollout for route in self._control.routes.busy()):
            self._liveness, self._silent_s = None, SILENT_S
            return
        liveness = self._liveness or DeployerLiveness(self._control.now(), self._silent_s)
        answered = await self._probe()
        now = self._control.now()
        self._liveness = after_probe(liveness, answered, now)
        for app in [route.app for route in self._control.routes.busy()]:
            if (before := self._control.route(app).active_rollout) is not None:
                rollout = paused_or_resumed(before, self._liveness, now)
                if rollout is not before:
                    self._control.put_rollout(app, rollout)
                    await asyncio.sleep(0)  # each change is written to disk; an abort must not wait for all of them
