"""Assembles the parts that record what canary analyses find, and that call apps' own metrics and hooks."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from services.monitor.alerts.proxy_figures import CURRENT
from services.monitor.checks.after_hooks import AfterHooks
from services.monitor.checks.check_client import CheckClient
from services.monitor.checks.check_store import CheckStore
from services.monitor.checks.own_checks import OwnChecks
from services.monitor.evidence.analysis_metrics import AnalysisCollector
from services.monitor.evidence.evidence_store import EvidenceStore
from services.monitor.evidence.recorder import EvidenceRecorder
from shared.models import Event
from shared.proxy_models import RolloutView
from shared.runtime.loops import Loop
from shared.security.vault import Vault

CHECK_S = 1.0
STORE_S = 5.0
AFTER_S = 60.0  # an ended rollout, the end of a call and a due time wake the loop

Rollouts = Callable[[], Mapping[str, RolloutView]]
"""Returns app → its rollout, as last read from the proxy."""


@dataclass(frozen=True)
class Evidence:
    """Holds the parts that record what canary analyses find, and that call apps' own metrics and hooks, with the loops
    that run them. As a context manager it must be entered before the loops start, and left after they have ended.
    """

    recorder: EvidenceRecorder
    checks: OwnChecks
    collector: AnalysisCollector
    loops: list[Loop]
    _after: AfterHooks
    _client: CheckClient

    async def on_event(self, event: Event) -> None:
        """Handles the end of a rollout, if the event reports one. Raises RedisError; the event must then be handled
        again.
        """
        await self._after.on_event(event)
        await self.recorder.on_event(event)
        self.collector.on_event(event)

    async def forget(self, app: str) -> None:
        """Deletes all that is held and stored about an app that was removed. Raises RedisError."""
        await self.recorder.forget(app)
        await self.checks.forget(app)
        self._after.forget(app)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.checks.close()
        await self._after.close()
        await self._client.aclose()


def evidence(
    store: EvidenceStore,
    checks: CheckStore,
    client: CheckClient,
    vault: Callable[[], Vault],
    rollouts: Rollouts,
    clock: Callable[[], datetime],
) -> Evidence:
    """Returns the parts that record what canary analyses find, and that call apps' own metrics and hooks. `vault`
    returns the vault that encrypts header values, which is made when it is needed.
    """

    def current() -> list[RolloutView]:
        return [rollout for rollout in rollouts().values() if rollout.state in CURRENT]

    own = OwnChecks(checks, client, vault, current, lambda release: recorder.verdict(release), clock)
    recorder = EvidenceRecorder(store, own.states, clock)
    due = asyncio.Event()
    after = AfterHooks(checks, client, own, recorder.verdict, clock, due.set)

    async def record() -> None:
        for rollout in current():
            recorder.on_rollout(rollout)
        await recorder.flush()

    loops = [
        Loop("own checks", own.step, every_s=CHECK_S),
        Loop("hooks after rollouts", after.step, every_s=AFTER_S, stale_s=3 * AFTER_S, woken=due),
        Loop("storing evidence", record, every_s=STORE_S, stale_s=60.0),
    ]
    return Evidence(recorder, own, AnalysisCollector(recorder), loops, after, client)
