"""Decides when an environment's memory limit is doubled or halved. Pure. A policy's `up` is a share of the present
limit, `down` a share of the halved one. `PolicyBody` refuses a `down` that is half of `up` or more, because the use at
which a limit is halved would then double it again.
"""

from collections.abc import Iterator, Sequence
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
from services.monitor.scaling.scaling_input import GAP_S, EnvironmentKey, LiveRelease, ScalingInput
from shared.clock import lasts
from shared.models import Environment, InstanceStats, Model

STALE_S = 2 * GAP_S  # older samples are not used
MIB = 2**20


class PolicyBody(Model):
    """Request body of `PUT /policies/{app}/{environment}`. Shares are of the memory limit (0 to 1), durations in
    seconds.
    """

    enabled: bool = Field(True, description="False: changes are decided and recorded, but not made.")
    up: float = Field(
        0.85, gt=0, le=1, description="The limit is doubled once `samples` consecutive samples reach this share of it."
    )
    up_soon: float = Field(
        0.75,
        gt=0,
        le=1,
        validate_default=True,
        description="The limit is doubled from this share on if use will reach the limit in `horizon_s`.",
    )
    down: float = Field(
        0.40,
        gt=0,
        lt=1,
        validate_default=True,
        description="The limit is halved if use stays below this share of the halved limit.",
    )
    samples: int = Field(3, ge=2, le=10, description="Consecutive samples (2 s apart) that `up` and growth need.")
    horizon_s: float = Field(
        6, gt=0, le=60, description="For `up_soon`: time until use, at its present growth, reaches the limit."
    )
    pressure: float = Field(
        10, gt=0, le=100, description="The limit is doubled from this memory pressure on: PSI `some avg10`, percent."
    )
    cooldown_s: float = Field(
        30, ge=10, le=3600, description="Time between a change and the next doubling, except after an OOM kill."
    )
    idle_s: float = Field(
        300,
        ge=30,
        le=300,
        description="Time for which use must be low before the limit is halved; samples go back 300 s.",
    )

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
    def key(self) -> EnvironmentKey:
        return EnvironmentKey(self.app, self.environment)


def default_policy(key: EnvironmentKey) -> Policy:
    """Returns the policy of an environment for which none was set."""
    return Policy(app=key.app, environment=key.environment)


@dataclass(frozen=True)
class _Proposal:
    """Holds a change of the memory limit that the figures suggest, before obstacles such as a cooldown are checked.
    `from_`, `to` and `most` (the manifest's `max_memory`) are limits in bytes.
    """

    action: Action
    cause: Cause
    reason: str
    from_: int
    to: int
    most: int = 0

    @property
    def change(self) -> str:
        return f"{_mib(self.from_)} → {_mib(self.to)} MiB"


def decide(live: LiveRelease, policy: Policy, past: Past, now: datetime) -> ScalingVerdict:
    """Decides whether the memory limit that the instances of `live` share is doubled, halved or kept. It is doubled (at
    most to the manifest's `max_memory`) after a kill at the limit, and if an instance is full, soon full or waits for
    memory. It is halved (at least to `min_memory`) if use was low for `idle_s`. `past` holds the earlier decisions
    about the environment: after a change, also one that the deployer refused, the next one has to wait.
    """
    inputs = [_input(instance, policy, now) for instance in live.instances]

    def stays(cause: Cause, reason: str, limit: int) -> ScalingVerdict:
        return ScalingVerdict(Action.NONE, cause, reason, limit, limit, live.release, inputs)

    if not live.kills and (lack := _lack_of_figures(live, now)):
        return stays(*lack, live.limit)
    proposal = _up(live, policy) or _down(live, policy)
    if proposal is None:
        fullest = max(live.serving, key=lambda instance: instance.share)
        count = f"{len(live.serving)} instances" if len(live.serving) > 1 else "its one instance"
        return stays(Cause.WITHIN_BAND, f"{_uses(fullest)}, the most of {count}", live.limit)
    if obstacle := _obstacle(proposal, live, inputs, policy, past, now):
        return stays(*obstacle, proposal.from_)
    reason = proposal.reason
    if proposal.action is Action.DOWN:
        top = max(inputs, key=lambda item: item.highest)
        reason = f"{top.id} used most in {policy.idle_s:g} s, {_mib(top.highest)} MiB, {_low(policy, proposal.to)}"
    reason = f"{reason}: {proposal.change}"
    return ScalingVerdict(proposal.action, proposal.cause, reason, proposal.from_, proposal.to, live.release, inputs)


def outdated(decision: Decision, live: LiveRelease, policy: Policy, now: datetime) -> tuple[DecisionState, str] | None:
    """Returns the final state and the reason if the stored decision must not be applied any more: the limit is already
    changed, or the figures, the release or the policy that it was based on are outdated. Returns None if it is still to
    be applied.
    """
    limits = [instance.limit for instance in live.instances if live.release == decision.release]
    if not policy.enabled:
        return DecisionState.SUPERSEDED, "the policy was disabled meanwhile"
    if live.serving and live.release != decision.release:
        return DecisionState.SUPERSEDED, f"{live.release} is live now"
    if limits and all(limit == decision.to for limit in limits):
        return DecisionState.APPLIED, "every instance has that limit already"
    if limits and max(limits) > max(decision.from_, decision.to):
        return DecisionState.SUPERSEDED, f"the limit was raised to {_mib(max(limits))} MiB meanwhile"
    if decision.action is Action.DOWN and (now - decision.at).total_seconds() > policy.idle_s:
        return DecisionState.SUPERSEDED, "the figures that it was decided on are too old"
    return None


def still_idle(decision: Decision, stats: Sequence[InstanceStats], policy: Policy) -> str | None:
    """Returns the reason why the present use forbids the lower limit of `decision`; None if it does not. `stats` holds
    the counters, which must have been read just before.
    """
    if not stats:
        return f"no instance of {decision.release} gives figures"
    top = max(stats, key=lambda item: item.working_set)
    if top.working_set >= policy.down * decision.to:
        return f"read again, {top.id} uses {_mib(top.working_set)} MiB, not {_low(policy, decision.to)}"
    return None


def _lack_of_figures(live: LiveRelease, now: datetime) -> tuple[Cause, str] | None:
    if not live.instances:
        return Cause.NO_DATA, "the deployer gives no figures of any instance"
    if not live.serving:
        return Cause.RELEASE_UNDER_WAY, f"no instance of {live.release} serves yet"
    silent_s = min(instance.silent_s(now) for instance in live.serving)
    return (Cause.NO_DATA, f"no instance gave a sample for {silent_s:.0f} s") if silent_s > STALE_S else None


def _up(live: LiveRelease, policy: Policy) -> _Proposal | None:
    def proposal(cause: Cause, reason: str, limit: int, most: int) -> _Proposal:
        return _Proposal(Action.UP, cause, reason, limit, max(live.limit, min(most, 2 * limit)), most)

    if live.kills:
        kill = max(live.kills, key=lambda each: each.limit)
        reason = f"{kill.instance} was killed for want of memory (OOM) at its limit of {_mib(kill.limit)} MiB"
        return proposal(Cause.OOM_KILL, reason, kill.limit, kill.max_memory)
    asking = [(cause, instance, why) for instance in live.serving for cause, why in _demands(instance, policy)]
    if not asking:
        return None
    order = list(Cause)  # of two causes, the one that is defined first is named
    cause, instance, why = min(asking, key=lambda each: (order.index(each[0]), -each[1].share))
    return proposal(cause, why, instance.limit, instance.stats.max_memory)


def _demands(instance: ScalingInput, policy: Policy) -> Iterator[tuple[Cause, str]]:
    """Yields (cause, reason) for each condition that demands a higher limit of the instance."""
    running, growth = instance.last(policy.samples), instance.growth(policy.samples)
    pressure = instance.stats.memory_pressure
    if len(running) == policy.samples and min(sample.working_set for sample in running) >= policy.up * instance.limit:
        yield Cause.FULL, f"{_uses(instance)}, {policy.samples} samples running at {_percent(policy.up)} or more"
    if instance.share >= policy.up_soon and growth is not None and growth > 0:
        left_s = max(0.0, (instance.limit - instance.stats.working_set) / growth)
        if left_s <= policy.horizon_s:
            soon = f"grows by {_mib(growth)} MiB a second, at its limit in {left_s:.0f} s"
            yield Cause.FULL_SOON, f"{_uses(instance)} and {soon}"
    if pressure is not None and pressure >= policy.pressure:
        waits = f"waits for memory {pressure:.0f} % of the time, {policy.pressure:g} % or more is too much"
        yield Cause.PRESSURE, f"{_uses(instance)} and {waits}"


def _down(live: LiveRelease, policy: Policy) -> _Proposal | None:
    to = max(live.limit // 2, *(instance.stats.min_memory for instance in live.instances))
    top = max(live.instances, key=lambda instance: instance.stats.working_set)
    if to >= live.limit or top.stats.working_set >= policy.down * to:
        return None
    return _Proposal(Action.DOWN, Cause.IDLE, f"{_uses(top)}, {_low(policy, to)}", live.limit, to)


def _obstacle(
    proposal: _Proposal, live: LiveRelease, inputs: Sequence[Input], policy: Policy, past: Past, now: datetime
) -> tuple[Cause, str] | None:
    up, killed = proposal.action is Action.UP, proposal.cause is Cause.OOM_KILL
    if up and proposal.to <= proposal.from_:
        most = f"{_mib(proposal.most)} MiB is the most that resources.max_memory allows"
        return Cause.AT_CAP, f"{proposal.reason}; {most}"
    asks = f"{proposal.reason} asks for {proposal.change}"
    if not policy.enabled:
        return Cause.DISABLED, f"{asks}; the policy is not enabled"
    if live.under_way and not killed:
        return Cause.RELEASE_UNDER_WAY, f"{asks}; it waits for the release that is under way"
    pause_s = policy.cooldown_s if up else policy.idle_s
    if past.change and not killed:
        since = past.change.settled_at or past.change.at
        if lasts(since, pause_s, now):
            since_s = (now - since).total_seconds()
            cause = Cause.COOLDOWN if up else Cause.SETTLING
            return cause, f"{asks}; the last change is {since_s:.0f} s ago, {pause_s:g} s must pass"
    return None if up else _not_idle(proposal, asks, live, inputs, policy, now)


def _not_idle(
    proposal: _Proposal, asks: str, live: LiveRelease, inputs: Sequence[Input], policy: Policy, now: datetime
) -> tuple[Cause, str] | None:
    """Returns cause and reason if the samples of the last `idle_s` seconds do not show that use was low; None if they
    do. `asks` says which change the figures ask for; some reasons begin with it.
    """
    within = f"within {policy.idle_s:g} s"
    top = max(inputs, key=lambda item: item.highest)
    if top.highest >= policy.down * proposal.to:
        return Cause.USE_TOO_HIGH, f"{top.id} used {_mib(top.highest)} MiB {within}, not {_low(policy, proposal.to)}"
    since = now - timedelta(seconds=policy.idle_s)
    if killed := next((instance for instance in live.instances if instance.killed_since(since)), None):
        return Cause.USE_TOO_HIGH, f"{killed.id} had an OOM kill {within}"
    newest = min(live.instances, key=lambda instance: instance.covered_s(now))
    if (covered_s := newest.covered_s(now)) < policy.idle_s - GAP_S:
        return Cause.NO_DATA, f"{asks}; the samples of {newest.id} cover {covered_s:.0f} of {policy.idle_s:g} s"
    return None


def _input(instance: ScalingInput, policy: Policy, now: datetime) -> Input:
    return Input(
        id=instance.id,
        working_set=instance.stats.working_set,
        limit=instance.limit,
        share=round(instance.share, 4),
        growth=instance.growth(policy.samples),
        highest=instance.highest(now - timedelta(seconds=policy.idle_s)),
        oom_kills=instance.stats.oom_kills,
        pressure=instance.stats.memory_pressure,
        samples=len(instance.samples),
    )


def _uses(instance: ScalingInput) -> str:
    used, limit = _mib(instance.stats.working_set), _mib(instance.limit)
    return f"{instance.id} uses {used} of {limit} MiB ({_percent(instance.share)})"


def _low(policy: Policy, limit: int) -> str:
    return f"below {_percent(policy.down)} of {_mib(limit)} MiB"


def _mib(size: float) -> str:
    return f"{size / MIB:.1f}".removesuffix(".0")


def _percent(share: float) -> str:
    return f"{round(share * 100)} %"
