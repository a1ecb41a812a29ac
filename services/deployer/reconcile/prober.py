"""Probes the health path of instances: 4 times a second until they are ready, then every 0.9 s. A hanging instance is
detected after 2.7 to 3.6 s: three time-outs of 0.9 s, and up to 0.9 s before the first. If the deployer itself is late,
detection takes that much longer.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.deployer.plan.observe import MISSES_ALLOWED, InstanceHealth
from services.deployer.reconcile.common_stall import CommonStall
from services.deployer.reconcile.cpu_pressure import cpu_waited_s
from services.deployer.reconcile.probe import ProbeOutcome, ProbeTarget, send_probe
from services.deployer.releases.environment import EnvironmentId
from shared.registry import ProbeRecord
from shared.runtime.loops import cancel

log = logging.getLogger(__name__)

DISCOUNTED = "discounted"
TOGETHER_S = 0.1  # probes begin together, ten times a second, which takes a third less CPU than one by one
UNSENT_KEPT_S = 10.0
LAG_LOGGED_S = 5.0
LAG_LOGGED_EVERY_S = 60.0


@dataclass(frozen=True)
class ProbeTimes:
    """Holds when probes of one instance began, in monotonic seconds: the last one that succeeded (`answered_at`), the
    first success since the last failure (`well_since`), and the first failure since the last success (`failing_since`).
    A time is None if there is no such probe.
    """

    answered_at: float | None = None
    well_since: float | None = None
    failing_since: float | None = None

    def after(self, begun: float, is_well: bool) -> "ProbeTimes":
        """Returns the times after one more probe, which began at `begun`."""
        if is_well:
            return ProbeTimes(begun, begun if self.well_since is None else self.well_since)
        return ProbeTimes(self.answered_at, None, begun if self.failing_since is None else self.failing_since)


class Prober:
    """Probes each instance in a task of its own. `on_change` is called when a probe succeeds after a failure or fails
    after a success, and at the third failure in a row. A probe whose outcome may be due to the machine and not to the
    instance counts neither as failure nor as success.
    """

    def __init__(self, on_change: Callable[[EnvironmentId], None]) -> None:
        self.outcomes: Counter[str] = Counter()
        """Number of probes by outcome; those that could not tell are `discounted`."""
        self.lag_s = 0.0
        """Sum of the seconds by which probes were late because this process was."""
        self._on_change = on_change
        self._stall = CommonStall()
        self._targets: dict[EnvironmentId, dict[str, ProbeTarget]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._health: dict[str, InstanceHealth] = {}
        self._times: dict[str, ProbeTimes] = {}
        self._unsent = float("-inf"), ""
        self._lag_logged_s, self._lag_logged_at = 0.0, float("-inf")

    def follow(self, environment_id: EnvironmentId, targets: Mapping[str, ProbeTarget]) -> None:
        """Probes exactly the instances in `targets` (instance id → target) of this environment from now on. Forgets all
        other instances of the environment.
        """
        for gone in self._targets.get(environment_id, {}).keys() - targets.keys():
            self._tasks.pop(gone).cancel()
            self._health.pop(gone, None)
            self._times.pop(gone, None)
        self._targets[environment_id] = dict(targets)
        for instance_id in targets.keys() - self._tasks.keys():
            self._tasks[instance_id] = asyncio.create_task(self._probe(environment_id, instance_id))

    def health(self) -> Mapping[str, InstanceHealth]:
        """Returns instance id → health, for each instance of which a probe has succeeded or failed."""
        return self._health

    def records(self, instance_ids: Iterable[str], now: datetime) -> dict[str, ProbeRecord]:
        """Returns instance id → the times of its last probes, for those of `instance_ids` of which a probe has
        succeeded or failed. `now` is the current time.
        """
        monotonic = time.monotonic()

        def wall(at: float | None) -> datetime | None:
            return None if at is None else now - timedelta(seconds=monotonic - at)

        return {
            each: ProbeRecord(
                answered_at=wall(times.answered_at),
                well_since=wall(times.well_since),
                failing_since=wall(times.failing_since),
            )
            for each in instance_ids
            if (times := self._times.get(each)) is not None
        }

    async def check(self) -> str | None:
        """Returns the reason why probes now say nothing about instances, to be shown by `GET /ready`; None if they
        do.
        """
        unsent_at, why = self._unsent
        now = time.monotonic()
        return f"a probe could not be sent: {why}" if now - unsent_at < UNSENT_KEPT_S else self._stall.problem(now)

    async def close(self) -> None:
        await cancel(self._tasks.values())

    async def _probe(self, environment_id: EnvironmentId, instance_id: str) -> None:
        waited_before_s = cpu_waited_s()
        while True:
            target = self._targets[environment_id][instance_id]
            begun = time.monotonic()
            result = await send_probe(target)
            self._note_lag(result.lag_s)
            if result.outcome is ProbeOutcome.UNSENT:
                self._unsent = time.monotonic(), result.detail
            if self._tells(environment_id.app, instance_id, target, result.outcome, begun):
                self.outcomes[result.outcome] += 1
                misses = 0 if result.outcome is ProbeOutcome.ANSWERED else self._misses(instance_id) + 1
                waited_s = cpu_waited_s() - waited_before_s if target.is_new else 0.0
                self._times[instance_id] = self._times.get(instance_id, ProbeTimes()).after(begun, misses == 0)
                self._record(environment_id, instance_id, InstanceHealth(misses, result.detail, waited_s))
            else:
                self.outcomes[DISCOUNTED] += 1
            due = begun + target.every_s if target.is_new else round(begun / TOGETHER_S) * TOGETHER_S + target.every_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _tells(self, app: str, instance_id: str, target: ProbeTarget, outcome: ProbeOutcome, begun: float) -> bool:
        """Returns False if the outcome says nothing about the instance, because the machine may be the cause. For a new
        instance, a late answer does count; its time to become ready is limited separately.
        """
        now = time.monotonic()
        if outcome is ProbeOutcome.UNSENT:
            return False
        if outcome is not ProbeOutcome.LATE:
            self._stall.answered(app, now)
            return True
        if target.is_new:
            return True
        is_covered = self._stall.covers(app, begun, now)
        if self._misses(instance_id) <= MISSES_ALLOWED:
            self._stall.timed_out(app, now)
        return not is_covered

    def _misses(self, instance_id: str) -> int:
        before = self._health.get(instance_id)
        return before.misses if before else 0

    def _record(self, environment_id: EnvironmentId, instance_id: str, health: InstanceHealth) -> None:
        before = self._health.get(instance_id)
        self._health[instance_id] = health
        was_well = before is not None and before.misses == 0
        if (health.misses == 0) != was_well or health.misses == MISSES_ALLOWED + 1:
            self._on_change(environment_id)

    def _note_lag(self, lag_s: float) -> None:
        self.lag_s += lag_s
        now = time.monotonic()
        if self.lag_s - self._lag_logged_s >= LAG_LOGGED_S and now - self._lag_logged_at >= LAG_LOGGED_EVERY_S:
            log.warning(
                "probes were late by %.0f s in all, as this process had too little CPU: instances get as much longer "
                "to answer",
                self.lag_s - self._lag_logged_s,
            )
            self._lag_logged_s, self._lag_logged_at = self.lag_s, now
