"""Ends or holds the steps of rollouts, by the canary analysis and by apps' own metrics and hooks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from services.monitor.progress.gate import GateCheck, GateDecision, GateVerdict, decide, is_last, is_over
from shared.errors import Problem
from shared.http import ServiceClient
from shared.proxy_models import RolloutAdvance, RolloutView, VerdictResult

log = logging.getLogger(__name__)

CALL_S = 5.0  # the proxy waits up to 3 s for Envoy
AGAIN = timedelta(seconds=10)

GateChecks = Callable[[str, str, int], Awaitable[Sequence[GateCheck]]]
"""Function of an app, a release id and the number of a step (from 0) of its rollout; returns the results of the app's
own metrics and hooks at the end of the step.
"""


class GateJudge(Protocol):
    def at_gate(self, last: bool) -> GateVerdict: ...


class RolloutAnalysis(Protocol):
    """Defines what the loop reads of the canary analysis of a rollout; `last_window_at` is the time of its last
    figures.
    """

    @property
    def release(self) -> str: ...
    @property
    def judge(self) -> GateJudge: ...
    @property
    def last_window_at(self) -> datetime | None: ...


class Analyses(Protocol):
    def of(self, app: str) -> RolloutAnalysis | None:
        """Returns the analysis of the app's open rollout, if it has any figures."""
        ...


class Progress:
    """Decides about each step of a rollout whose time is over, by the canary analysis, and tells the proxy to end or
    hold the step. A step that is held is decided about every 10 s. `rollouts` returns app → its rollout, as last read
    from the proxy. The loop stores nothing: the proxy keeps the step, and a repeated request ends a step only once.
    """

    def __init__(
        self,
        proxy: ServiceClient,
        rollouts: Callable[[], Mapping[str, RolloutView]],
        analyses: Analyses,
        gate_checks: GateChecks,
        clock: Callable[[], datetime],
    ) -> None:
        self._proxy = proxy
        self._rollouts = rollouts
        self._analyses = analyses
        self._gate_checks = gate_checks
        self._clock = clock
        self._asked: dict[tuple[str, int], datetime] = {}
        """(Release, step) → time of the last answer of the proxy about it."""

    async def step(self) -> None:
        """Handles, at the same time, all rollouts whose current step's time is over. Raises the first error, after all
        were handled.
        """
        now = self._clock()
        over = {app: rollout for app, rollout in self._rollouts().items() if is_over(rollout, now)}
        keys = {_key(rollout) for rollout in over.values()}
        self._asked = {key: at for key, at in self._asked.items() if key in keys}
        due = [app for app, rollout in over.items() if not self._just_asked(rollout, now)]
        answers = await asyncio.gather(*(self._handle(app, over[app]) for app in due), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    def _just_asked(self, rollout: RolloutView, now: datetime) -> bool:
        at = self._asked.get(_key(rollout))
        return at is not None and abs(now - at) < AGAIN

    async def _handle(self, app: str, rollout: RolloutView) -> None:
        decision = await self._decide(app, rollout)
        try:
            await self._tell(app, rollout, decision)
        except Problem as problem:
            if problem.status not in (404, 409):  # else the rollout has gone another way meanwhile
                log.warning("step %s of %s is to end, which is repeated: %s", *_named(rollout), problem.detail)
                return
        else:
            how = f"is held: {decision.hold}" if decision.hold else f"has ended: {decision.verdict.reason}"
            log.info("step %s of %s %s", *_named(rollout), how)
        self._asked[_key(rollout)] = self._clock()

    async def _decide(self, app: str, rollout: RolloutView) -> GateDecision:
        release, step = _key(rollout)
        analysis = self._analyses.of(app)
        verdict, read_at = None, None
        if analysis is not None and analysis.release == release:
            verdict, read_at = analysis.judge.at_gate(is_last(rollout)), analysis.last_window_at
        has_failed = verdict is not None and verdict.result is VerdictResult.FAIL
        checks = () if has_failed else await self._gate_checks(app, release, step)
        return decide(rollout, verdict, read_at, checks, self._clock())

    async def _tell(self, app: str, rollout: RolloutView, decision: GateDecision) -> None:
        release, step = _key(rollout)
        body = RolloutAdvance(release=release, step=step, verdict=decision.verdict, hold=decision.hold)
        await self._proxy.post(f"/apps/{app}/rollout/advance", body.model_dump(mode="json"), timeout_s=CALL_S)


def _key(rollout: RolloutView) -> tuple[str, int]:
    return rollout.release or "", rollout.step


def _named(rollout: RolloutView) -> tuple[str, str]:
    return f"{rollout.step + 1} of {len(rollout.steps)}", rollout.release or ""
