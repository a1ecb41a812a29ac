"""Runs the scaling loop: reads figures, decides, stores the decision, lets the deployer apply it, and stores the
outcome. Each change needs a stored decision, so nothing is scaled while Redis is unreachable, however urgent it is.
That costs at most one instance, which the deployer replaces, while a change that is not recorded could be neither
explained nor resumed after a restart. Once Redis is back, the first step decides by current figures.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from services.monitor.samples.sample_cache import SampleCache
from services.monitor.scaling.policy_store import PolicyStore
from services.monitor.scaling.scaling_decision import (
    Action,
    Decision,
    DecisionState,
    Past,
    ScalingVerdict,
    new_decision,
    repeated,
    scaling_event,
    settled,
)
from services.monitor.scaling.scaling_input import (
    PRESENT,
    SERVING,
    EnvironmentKey,
    Kill,
    LiveRelease,
    OomKillCounter,
    ScalingInput,
    count_kills,
    live_release,
)
from services.monitor.scaling.scaling_policy import Policy, decide, default_policy, outdated, still_idle
from shared.errors import Problem
from shared.http import ServiceClient
from shared.models import EnvironmentView, InstanceStats, Page, ReleaseState
from shared.store import RedisError

log = logging.getLogger(__name__)

CALL_S = 1.5  # time-out of a call, which is not retried, since the next step calls again
WRITTEN_S = 10  # how often an entry is stored of which only the count changes


@dataclass
class _EnvironmentState:
    """Holds the state of the scaling loop for one environment."""

    past: Past | None = None
    """Earlier decisions; None if they must be read from the store again."""
    written_at: datetime | None = None
    """Time at which the last decision was stored."""
    counts_on: bool = False
    """True if the last decision has been repeated since it was stored."""
    runs: bool = True
    """True if the deployer's last answer contained instances of the environment."""
    release: str = ""
    kill_counters: dict[str, OomKillCounter] = field(default_factory=dict)
    """Instance id → its counter of kills at the memory limit."""
    kills: list[Kill] = field(default_factory=list)
    """Kills at the memory limit that no decision has considered yet."""

    @property
    def is_needed(self) -> bool:
        return self.runs or bool(self.kills) or self.past is None or _open(self.past)


class Scaling:
    """Decides about the memory limit of every environment that has instances. A failure in one environment affects no
    other. A deployer that hangs delays the next step by 1.5 s.
    """

    def __init__(
        self, deployer: ServiceClient, samples: SampleCache, store: PolicyStore, clock: Callable[[], datetime]
    ) -> None:
        self._deployer = deployer
        self._samples = samples
        self._store = store
        self._clock = clock
        self._environments: dict[EnvironmentKey, _EnvironmentState] = {}
        self._ready: dict[tuple[str, datetime], datetime] = {}
        self._resumed = False

    def killed(self, key: EnvironmentKey, kill: Kill) -> None:
        """Records a kill at the memory limit, which an event reported, for the next step. Repeated reports of one kill
        have no effect.
        """
        self._environments.setdefault(key, _EnvironmentState()).kills.append(kill)

    def forget(self, key: EnvironmentKey) -> None:
        """Drops what the loop remembers of an environment that was removed."""
        self._environments.pop(key, None)

    async def step(self) -> None:
        """Decides once about the memory limit of each environment. Raises the first error, after all environments were
        handled.
        """
        instances = self._by_environment()
        if not self._resumed:
            for key in await self._store.environments():
                self._environments.setdefault(key, _EnvironmentState(past=await self._store.past(key), runs=False))
            self._resumed = True
        policies = {policy.key: policy for policy in await self._store.policies()}
        for key in instances:
            self._environments.setdefault(key, _EnvironmentState())
        if self._samples.answers:  # otherwise earlier instances may still run
            for key, state in self._environments.items():
                state.runs = key in instances
        self._environments = {key: state for key, state in self._environments.items() if state.is_needed}
        turns = [
            self._turn(key, state, instances.get(key, []), policies.get(key) or default_policy(key))
            for key, state in self._environments.items()
        ]
        outcomes = await asyncio.gather(*turns, return_exceptions=True)
        await self._store_counts()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _store_counts(self) -> None:
        """Stores decisions of which only the number of repetitions has changed: each at most every 10 s, and all with
        one call.
        """
        now = self._clock()
        due = [
            state
            for state in self._environments.values()
            if state.counts_on and (state.written_at is None or (now - state.written_at).total_seconds() >= WRITTEN_S)
        ]
        if due:
            await self._store.update_all(state.past.last for state in due if state.past and state.past.last)
            for state in due:
                state.written_at, state.counts_on = now, False

    def _by_environment(self) -> dict[EnvironmentKey, list[ScalingInput]]:
        """Returns environment → the latest figures of all its instances."""
        found: dict[EnvironmentKey, list[ScalingInput]] = {}
        ready = {}
        for stats in self._samples.stats():
            samples = self._samples.recent(stats.id)
            key = (stats.id, stats.started_at)
            if stats.state in SERVING and samples:
                ready[key] = self._ready.get(key, samples[-1].at)
            instance = ScalingInput(stats, samples, ready.get(key))
            found.setdefault(EnvironmentKey(stats.app, stats.environment), []).append(instance)
        self._ready = ready
        return found

    async def _turn(
        self, key: EnvironmentKey, state: _EnvironmentState, instances: Sequence[ScalingInput], policy: Policy
    ) -> None:
        live = live_release(instances)
        try:
            if state.past is None:
                state.past = await self._store.past(key)
            self._count_kills(state, live)
            if not _open(state.past) and not await self._decide(key, state, live, policy):
                return
            if _open(state.past):
                await self._carry_out(state, live, policy)
        except RedisError:
            state.past = None  # it is unknown whether the entry was stored
            raise

    def _count_kills(self, state: _EnvironmentState, live: LiveRelease) -> None:
        """Adds new kills at the memory limit to `state`. For a release that `state` does not know yet, these are the
        kills since the last stored decision.
        """
        if not live.instances:
            return
        if state.release != live.release:
            last = state.past.last if state.past else None
            inputs = last.inputs if last and last.release == live.release else []
            state.kill_counters = {item.id: OomKillCounter(item.oom_kills, item.limit) for item in inputs}
            state.release = live.release
        state.kill_counters, kills = count_kills(state.kill_counters, live.instances)
        state.kills += kills

    async def _decide(self, key: EnvironmentKey, state: _EnvironmentState, live: LiveRelease, policy: Policy) -> bool:
        """Decides about the environment and stores the decision. Returns False, and decides nothing, if there are kills
        at the memory limit and the deployer does not answer. Kills that are reported during the call are left for the
        next step.
        """
        assert state.past is not None
        considered = list(state.kills)
        kills = await self._unanswered(key, considered) if considered else []
        if kills is None:
            return False
        if kills:
            own = [instance for instance in live.instances if instance.stats.release == kills[0].release]
            live = replace(live, release=kills[0].release, instances=own, kills=kills)
        elif not live.instances and state.past.last is not None:
            live = replace(live, release=state.past.last.release)
        if kills or state.runs:
            await self._record(key, state, decide(live, policy, state.past, self._clock()))
        del state.kills[: len(considered)]
        return True

    async def _unanswered(self, key: EnvironmentKey, kills: Sequence[Kill]) -> list[Kill] | None:
        """Returns the kills after which the limit has not been raised yet: those of the live release at the desired
        limit or above. Kills of a release that is starting are left out, because the deployer itself raises its limit.
        Returns None if the deployer does not answer.
        """
        try:
            answer = await self._deployer.get(_path(key), timeout_s=CALL_S, repeatable=False)
        except Problem as problem:
            return [] if problem.status == 404 else None
        view = EnvironmentView.model_validate(answer)
        if view.release is None or view.release.state is not ReleaseState.LIVE:
            return []
        return [kill for kill in kills if kill.release == view.release.id and kill.limit >= view.desired.memory]

    async def _record(self, key: EnvironmentKey, state: _EnvironmentState, verdict: ScalingVerdict) -> None:
        """Stores the policy's verdict as a decision, with an event if it changes the limit. A verdict that repeats the
        last decision is only counted in memory, and stored within 10 s.
        """
        assert state.past is not None
        now, past = self._clock(), state.past
        again = repeated(past.last, verdict, now)
        if again is not None:
            state.past, state.counts_on = Past(again, past.change), True
        else:
            decision = new_decision(key, past, verdict, now)
            changes = verdict.action is not Action.NONE
            await self._store.add(decision, scaling_event(decision) if changes else None, before=past.last)
            state.written_at, state.counts_on = now, False
            state.past = Past(decision, decision if changes else past.change)
            log.info("%s: %s", key, verdict.reason)

    async def _carry_out(self, state: _EnvironmentState, live: LiveRelease, policy: Policy) -> None:
        """Applies the environment's open change of the limit; closes it with a reason if it is outdated. If the
        deployer does not answer, the next step tries again.
        """
        assert state.past is not None and state.past.change is not None
        decision = state.past.change
        try:
            final, outcome = outdated(decision, live, policy, self._clock()) or await self._apply(decision, policy)
        except Problem as problem:
            log.warning("%s is not carried out, it is tried again: %s", decision.id, problem.detail)
            return
        after = settled(decision, final, outcome, self._clock())
        await self._store.update(after)
        state.past = Past(after, after)
        log.info("%s is %s: %s", decision.id, final, outcome)

    async def _apply(self, decision: Decision, policy: Policy) -> tuple[DecisionState, str]:
        """Lets the deployer apply the decision; returns its final state and the reason. Raises Problem if the deployer
        does not answer, or answers with a status of 500 and above.
        """
        key = EnvironmentKey(decision.app, decision.environment)
        if decision.action is Action.DOWN:
            answer = await self._deployer.get("/stats", timeout_s=CALL_S, repeatable=False)
            items = Page[InstanceStats].model_validate(answer).items
            if why := still_idle(decision, [item for item in items if _is_of(item, decision)], policy):
                return DecisionState.SUPERSEDED, why
        body: dict[str, Any] = {"memory": decision.to}
        try:
            await self._deployer.call("PATCH", _path(key), body=body, timeout_s=CALL_S)
        except Problem as problem:
            if problem.status >= 500:
                raise
            return DecisionState.REFUSED, f"the deployer refused: {problem.detail}"
        return DecisionState.APPLIED, "the deployer has taken it over"


def _open(past: Past) -> bool:
    return past.change is not None and past.change.is_open


def _path(key: EnvironmentKey) -> str:
    return f"/apps/{key.app}/environments/{key.environment}"


def _is_of(stats: InstanceStats, decision: Decision) -> bool:
    same = (stats.app, stats.environment, stats.release) == (decision.app, decision.environment, decision.release)
    return same and stats.state in PRESENT
