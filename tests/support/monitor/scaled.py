"""Instances that use memory, for tests of scaling. Sizes in MiB, times in seconds from AT."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from services.monitor.samples.sample import Sample
from services.monitor.scaling.scaling_decision import Action, Cause, Decision, DecisionState
from services.monitor.scaling.scaling_input import EnvironmentKey, LiveRelease, ScalingInput, live_release
from services.monitor.scaling.scaling_policy import Policy
from shared.models import Environment, InstanceState, InstanceStats

AT = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 2**20
KEY = EnvironmentKey("notes", Environment.PRODUCTION)


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def policy(**changes: Any) -> Policy:
    return Policy(app=KEY.app, environment=KEY.environment, **changes)


def counters(id: str = "notes-r3-1", used: float = 16, limit: int = 64, **changes: Any) -> InstanceStats:
    given: dict[str, Any] = {
        "id": id,
        "app": KEY.app,
        "environment": KEY.environment,
        "release": id.rpartition("-")[0],
        "state": InstanceState.READY,
        "started_at": AT,
        "memory_limit": limit * MIB,
        "working_set": ceil(used * MIB),
        "cpu_seconds": 1.0,
        "restarts": 0,
        "oom_kills": 0,
        "min_memory": 64 * MIB,
        "max_memory": 512 * MIB,
    }
    return InstanceStats.model_validate(given | changes)


def instance(
    used: Sequence[float],
    limit: int = 64,
    id: str = "notes-r3-1",
    *,
    now_s: float = 600,
    ready_s: float | None = 0,
    **changes: Any,
) -> ScalingInput:
    """An instance with one sample of each use, 2 s apart, the last one at `now_s`."""
    stats = counters(id, used[-1], limit, **changes)
    kills = stats.oom_kills
    samples = [
        Sample(
            at=at(now_s - 2 * ago),
            cpu=0.0,
            working_set=ceil(mib * MIB),
            memory_limit=limit * MIB,
            memory=mib / limit,
            oom_kills=kills,
        )
        for ago, mib in zip(range(len(used) - 1, -1, -1), used, strict=True)
    ]
    return ScalingInput(stats, samples, None if ready_s is None else at(ready_s))


def live(*instances: ScalingInput) -> LiveRelease:
    return live_release(instances)


def change(seconds: float, action: Action = Action.UP, from_: int = 64, to: int = 128, **update: Any) -> Decision:
    """A decision of that time which was applied at once."""
    decided = Decision(
        id="notes-production-1",
        number=1,
        app=KEY.app,
        environment=KEY.environment,
        release="notes-r3",
        action=action,
        cause=Cause.FULL if action is Action.UP else Cause.IDLE,
        reason="why",
        from_=from_ * MIB,
        to=to * MIB,
        state=DecisionState.APPLIED,
        at=at(seconds),
        first_at=at(seconds),
    )
    return decided.model_copy(update=update)
