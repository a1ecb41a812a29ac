"""The scaling policy: when an environment's memory limit is doubled or halved. Pure.

The start at 64 MB that doubles under high use is the original's; the shares and times are this project's choice. Twice
`down` stays below `up`, so that a halved limit is not doubled again by the same use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import Field, ValidationInfo, field_validator

from services.monitor.scaling.scaling_decision import (
    Action,
    Cause,
    Decision,
    DecisionState,
    Input,
    Past,
    ScalingVerdict,
)
from services.monitor.scaling.scaling_input import GAP_S, EnvironmentKey, InstanceReading, Kill, ScalingInput
from shared.models import Environment, InstanceStats, Model

STALE_S = 2 * GAP_S  # figures older than this are no figures
MIB = 2**20


class PolicyBody(Model):
    """Shares of the limit from 0 to 1, durations in seconds. A missing field has its default."""

    enabled: bool = Field(True, description="False: what would have been done is recorded, and not done.")
    up: float = Field(0.85, gt=0, le=1, description="Doubled from this share on, in `samples` samples running.")
    up_soon: float = Field(
        0.75, gt=0, le=1, validate_default=True, description="From this share on, doubled if it grows to the limit."
    )
    down: float = Field(
        0.40, gt=0, lt=1, validate_default=True, description="Halved if all use stays below this share of the half."
    )
    samples: int = Field(
        3, ge=2, le=10, description="Samples (2 s apart) that must agree, and that growth is taken of."
    )
    horizon_s: float = Field(6, gt=0, le=60, description="Growth that reaches the limit within this time counts.")
    pressure: float = Field(10, gt=0, le=100, description="Doubled from this PSI (some avg10) on, percent.")
    cooldown_s: float = Field(
        30, ge=10, le=3600, description="Not doubled so soon after a change, but for an OOM kill."
    )
    idle_s: float = Field(300, ge=30, le=300, description="How long use must be low; samples go back 5 min.")

    @field_validator("up_soon")
    @classmethod
    def _soon_comes_first(cls, up_soon: float, info: ValidationInfo) -> float:
        up = info.data.get("up")
        if up is not None and up_soon > up:
            raise ValueError(f"{up_soon} is above up ({up}), so it would never count; lower up_soon, or raise up")
        return up_soon

    @field_validator("down")
    @classmethod
    def _hysteresis(cls, down: float, info: ValidationInfo) -> float:
        up = info.data.get("up")
        if up is not None and down * 2 >= up:
            raise ValueError(
                f"twice {down} is not below up ({up}): the limit would flap, halved and doubled again by the same use; "
                f"lower down below {up / 2:g}, or raise up"
            )
        return down


class Policy(PolicyBody):
    app: str
    environment: Environment

    @property
    def place(self) -> EnvironmentKey:
        return EnvironmentKey(self.app, self.environment)


def default_policy(place: EnvironmentKey) -> Policy:
    """Returns the policy of an environment for which none was set."""
    return Policy(app=place.app, environment=place.environment)


@dataclass(frozen=True)
class _Wish:
    """A change that the figures call for, before obstacles are checked; `most` is the manifest's maximum, bytes."""

    action: Action
    cause: Cause
    words: str
    from_: int
    to: int
    most: int = 0


def decide(seen: InstanceReading, policy: Policy, past: Past, now: datetime) -> ScalingVerdict:
    """Decides about the memory limit that the instances of `seen` share.

    Up to twice the limit of the instance that needs it (at most its manifest's `max_memory`, never below what another
    instance has): after an OOM kill, when it is full, soon full, or under memory pressure. Down to half of it (not
    below `min_memory`) when use was low for `idle_s`. `past` holds earlier decisions: a refused or superseded change
    delays the next one like an applied one.
    """
    inputs = [_input(look, policy, now) for look in seen.looks]
    limit = max((look.limit for look in seen.looks), default=0)

    def stays(cause: Cause, reason: str, at: int = limit) -> ScalingVerdict:
        return ScalingVerdict(Action.NONE, cause, reason, at, at, seen.release, inputs)

    if not seen.kills:
        if not seen.looks:
            return stays(Cause.NO_DATA, "the deployer gives no figures of any instance")
        if not seen.serving:
            return stays(Cause.RELEASE_UNDER_WAY, f"no instance of {seen.release} serves yet")
        silent_s = min(_silent_s(look, now) for look in seen.serving)
        if silent_s > STALE_S:
            return stays(Cause.NO_DATA, f"no instance gave a sample for {silent_s:.0f} s")
    wish = _up(seen, policy) or _down(seen, policy)
    if wish is None:
        fullest = max(seen.serving, key=lambda look: look.share)
        return stays(Cause.WITHIN_BAND, f"{_uses(fullest)}, the most of {_instances(seen)}")
    obstacle = _obstacle(wish, seen, policy, past, now)
    if obstacle is not None:
        return stays(obstacle[0], obstacle[1], wish.from_)
    words = wish.words if wish.action is Action.UP else _was_idle(wish, seen, policy, now)
    return ScalingVerdict(
        wish.action, wish.cause, f"{words}: {_change(wish)}", wish.from_, wish.to, seen.release, inputs
    )


def outdated(
    decision: Decision, seen: InstanceReading, policy: Policy, now: datetime
) -> tuple[DecisionState, str] | None:
    """Returns the final state and reason of an open decision that is obsolete; None: carry it out."""
    limits = [look.limit for look in seen.looks if seen.release == decision.release]
    if not policy.enabled:
        return DecisionState.SUPERSEDED, "the policy was disabled meanwhile"
    if seen.serving and seen.release != decision.release:
        return DecisionState.SUPERSEDED, f"{seen.release} is live now"
    if limits and all(limit == decision.to for limit in limits):
        return DecisionState.APPLIED, "every instance has that limit already"
    if limits and max(limits) > max(decision.from_, decision.to):
        return DecisionState.SUPERSEDED, f"the limit was raised to {_mib(max(limits))} MiB meanwhile"
    if decision.action is Action.DOWN and (now - decision.at).total_seconds() > policy.idle_s:
        return DecisionState.SUPERSEDED, "the figures that it was decided on are too old"
    return None


def still_idle(decision: Decision, stats: Sequence[InstanceStats], policy: Policy) -> str | None:
    """Returns why the current use forbids lowering the limit; None: it may be lowered."""
    if not stats:
        return f"no instance of {decision.release} gives figures"
    top = max(stats, key=lambda item: item.working_set)
    if top.working_set >= policy.down * decision.to:
        return f"read again, {top.id} uses {_mib(top.working_set)} MiB, {_low(policy, decision.to, is_below=False)}"
    return None


def _up(seen: InstanceReading, policy: Policy) -> _Wish | None:
    highest = max((look.limit for look in seen.looks), default=0)

    def wish(cause: Cause, words: str, limit: int, most: int) -> _Wish:
        return _Wish(Action.UP, cause, words, limit, max(highest, min(most, 2 * limit)), most)

    if seen.kills:
        kill = max(seen.kills, key=lambda each: each.limit)
        return wish(Cause.OOM_KILL, _killed(kill), kill.limit, kill.max_memory)
    for cause, asks in ((Cause.FULL, _full), (Cause.FULL_SOON, _full_soon), (Cause.PRESSURE, _pressed)):
        asking = [(look, words) for look in seen.serving if (words := asks(look, policy))]
        if asking:
            look, words = max(asking, key=lambda pair: pair[0].share)
            return wish(cause, words, look.limit, look.stats.max_memory)
    return None


def _full(look: ScalingInput, policy: Policy) -> str | None:
    running = look.last(policy.samples)
    if len(running) < policy.samples or min(sample.working_set for sample in running) < policy.up * look.limit:
        return None
    return f"{_uses(look)}, {policy.samples} samples running at {_percent(policy.up)} or more"


def _full_soon(look: ScalingInput, policy: Policy) -> str | None:
    growth = look.growth(policy.samples)
    if look.share < policy.up_soon or growth is None or growth <= 0:
        return None
    left_s = max(0.0, (look.limit - look.stats.working_set) / growth)
    if left_s > policy.horizon_s:
        return None
    return f"{_uses(look)} and grows by {_mib(growth)} MiB a second, at its limit in {left_s:.0f} s"


def _pressed(look: ScalingInput, policy: Policy) -> str | None:
    pressure = look.stats.memory_pressure
    if pressure is None or pressure < policy.pressure:
        return None
    return f"{_uses(look)} and waits for memory {pressure:.0f} % of the time, {policy.pressure:g} % or more is too much"


def _down(seen: InstanceReading, policy: Policy) -> _Wish | None:
    limit = max(look.limit for look in seen.looks)
    to = max(limit // 2, *(look.stats.min_memory for look in seen.looks))
    top = max(seen.looks, key=lambda look: look.stats.working_set)
    if to >= limit or top.stats.working_set >= policy.down * to:
        return None
    return _Wish(Action.DOWN, Cause.IDLE, f"{_uses(top)}, {_low(policy, to)}", limit, to)


def _obstacle(
    wish: _Wish, seen: InstanceReading, policy: Policy, past: Past, now: datetime
) -> tuple[Cause, str] | None:
    up, killed = wish.action is Action.UP, wish.cause is Cause.OOM_KILL
    if up and wish.to <= wish.from_:
        return Cause.AT_CAP, f"{wish.words}; {_mib(wish.most)} MiB is the most that resources.max_memory allows"
    asks = f"{wish.words} asks for {_change(wish)}"
    if not policy.enabled:
        return Cause.DISABLED, f"{asks}; the policy is not enabled"
    if seen.under_way and not killed:
        return Cause.RELEASE_UNDER_WAY, f"{asks}; it waits for the release that is under way"
    since_s = _since_change_s(past, now)
    if up and not killed and since_s < policy.cooldown_s:
        return Cause.COOLDOWN, f"{asks}; the last change is {since_s:.0f} s ago, {policy.cooldown_s:g} s must pass"
    if up:
        return None
    if since_s < policy.idle_s:
        return Cause.SETTLING, f"{asks}; the last change is {since_s:.0f} s ago, {policy.idle_s:g} s must pass"
    used, top = _most_used(seen, policy, now)
    if used >= policy.down * wish.to:
        words = f"{top.id} used {_mib(used)} MiB within {policy.idle_s:g} s, {_low(policy, wish.to, is_below=False)}"
        return Cause.USE_TOO_HIGH, words
    since = now - timedelta(seconds=policy.idle_s)
    if killed_one := next((look for look in seen.looks if look.killed_since(since)), None):
        return Cause.USE_TOO_HIGH, f"{killed_one.id} had an OOM kill within {policy.idle_s:g} s"
    newest = min(seen.looks, key=lambda look: look.covered_s(now))
    if (covered_s := newest.covered_s(now)) < policy.idle_s - GAP_S:
        return Cause.NO_DATA, f"{asks}; the samples of {newest.id} cover {covered_s:.0f} of {policy.idle_s:g} s"
    return None


def _since_change_s(past: Past, now: datetime) -> float:
    if past.change is None:
        return float("inf")
    return (now - (past.change.settled_at or past.change.at)).total_seconds()


def _input(look: ScalingInput, policy: Policy, now: datetime) -> Input:
    return Input(
        id=look.id,
        working_set=look.stats.working_set,
        limit=look.limit,
        share=round(look.share, 4),
        growth=look.growth(policy.samples),
        highest=look.highest(now - timedelta(seconds=policy.idle_s)),
        oom_kills=look.stats.oom_kills,
        pressure=look.stats.memory_pressure,
        samples=len(look.samples),
    )


def _most_used(seen: InstanceReading, policy: Policy, now: datetime) -> tuple[int, ScalingInput]:
    since = now - timedelta(seconds=policy.idle_s)
    top = max(seen.looks, key=lambda look: look.highest(since))
    return top.highest(since), top


def _was_idle(wish: _Wish, seen: InstanceReading, policy: Policy, now: datetime) -> str:
    used, top = _most_used(seen, policy, now)
    return f"{top.id} used most in {policy.idle_s:g} s, {_mib(used)} MiB, {_low(policy, wish.to)}"


def _silent_s(look: ScalingInput, now: datetime) -> float:
    return (now - look.samples[-1].at).total_seconds() if look.samples else float("inf")


def _killed(kill: Kill) -> str:
    return f"{kill.instance} was killed for want of memory (OOM) at its limit of {_mib(kill.limit)} MiB"


def _uses(look: ScalingInput) -> str:
    return f"{look.id} uses {_mib(look.stats.working_set)} of {_mib(look.limit)} MiB ({_percent(look.share)})"


def _low(policy: Policy, to: int, is_below: bool = True) -> str:
    return f"{'below' if is_below else 'not below'} {_percent(policy.down)} of {_mib(to)} MiB"


def _instances(seen: InstanceReading) -> str:
    return f"{len(seen.serving)} instances" if len(seen.serving) > 1 else "its one instance"


def _change(wish: _Wish) -> str:
    return f"{_mib(wish.from_)} → {_mib(wish.to)} MiB"


def _mib(size: float) -> str:
    return f"{size / MIB:.1f}".removesuffix(".0")


def _percent(share: float) -> str:
    return f"{round(share * 100)} %"
