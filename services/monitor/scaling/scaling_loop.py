"""The scaling loop: looks, decides, stores the decision, has the deployer apply it, stores the outcome.

Nothing is changed without a stored decision (rule 7), so while Redis is away nothing is scaled, however urgent. That
costs at most one instance, which the deployer replaces; an unrecorded change could neither be explained nor resumed by
the next start. The looks go on, and the first one after Redis is back decides.
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
    InstanceReading,
    Kill,
    OomKillCounter,
    ScalingInput,
    count_kills,
    see,
)
from services.monitor.scaling.scaling_policy import Policy, decide, default_policy, outdated, still_idle
from shared.errors import Problem
from shared.http import ServiceClient
from shared.models import EnvironmentView, InstanceStats, Page, ReleaseState
from shared.store import RedisError

log = logging.getLogger(__name__)

CALL_S = 1.5  # time-out of one try; the next step tries again
WRITTEN_S = 10  # how often an entry that only counts on is stored


@dataclass
class _EnvironmentState:
    """The loop's state for one environment."""

    past: Past | None = None
    """None where the store has to be read again."""
    written_at: datetime | None = None
    """Time at which the last entry was stored."""
    runs: bool = True
    """True if the deployer's last answer had instances of it."""
    release: str = ""
    tallies: dict[str, OomKillCounter] = field(default_factory=dict)
    """OOM kill counters by instance."""
    kills: list[Kill] = field(default_factory=list)
    """OOM kills that no decision has considered yet."""

    @property
    def is_needed(self) -> bool:
        return self.runs or bool(self.kills) or self.past is None or _open(self.past)


class Scaling:
    """Decides about every environment with instances, independently of each other.

    A failure in one affects no other (a deployer that hangs delays the next look by `CALL_S`).
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

    def killed(self, place: EnvironmentKey, kill: Kill) -> None:
        """Records an OOM kill from an event; the next step handles it. Repeated reports of one kill have no effect."""
        self._environments.setdefault(place, _EnvironmentState()).kills.append(kill)

    async def step(self) -> None:
        """Looks at each environment once. Raises the first error, after all had their turn."""
        looks = self._looks()
        if not self._resumed:
            for place in await self._store.places():
                self._environments.setdefault(place, _EnvironmentState(past=await self._store.past(place), runs=False))
            self._resumed = True
        policies = {policy.place: policy for policy in await self._store.policies()}
        for place in looks:
            self._environments.setdefault(place, _EnvironmentState())
        if self._samples.answers:  # else what ran may run still
            for place, state in self._environments.items():
                state.runs = place in looks
        self._environments = {place: state for place, state in self._environments.items() if state.is_needed}
        turns = [
            self._turn(place, state, looks.get(place, []), policies.get(place) or default_policy(place))
            for place, state in self._environments.items()
        ]
        for outcome in await asyncio.gather(*turns, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def _looks(self) -> dict[EnvironmentKey, list[ScalingInput]]:
        """Returns the sampler's current figures by environment."""
        found: dict[EnvironmentKey, list[ScalingInput]] = {}
        ready = {}
        for stats in self._samples.stats():
            samples = self._samples.recent(stats.id)
            key = (stats.id, stats.started_at)
            if stats.state in SERVING and samples:
                ready[key] = self._ready.get(key, samples[-1].at)
            look = ScalingInput(stats, samples, ready.get(key))
            found.setdefault(EnvironmentKey(stats.app, stats.environment), []).append(look)
        self._ready = ready
        return found

    async def _turn(
        self, place: EnvironmentKey, state: _EnvironmentState, looks: Sequence[ScalingInput], policy: Policy
    ) -> None:
        seen = see(looks)
        try:
            if state.past is None:
                state.past = await self._store.past(place)
            self._count_kills(state, seen)
            if not _open(state.past) and not await self._decide(place, state, seen, policy):
                return
            if _open(state.past):
                await self._carry_out(state, seen, policy)
        except RedisError:
            state.past = None  # nobody knows what was written
            raise

    def _count_kills(self, state: _EnvironmentState, seen: InstanceReading) -> None:
        """Records new OOM kills; after a start, those since the last stored entry."""
        if not seen.looks:
            return
        if state.release != seen.release:
            last = state.past.last if state.past else None
            known = last.inputs if last and last.release == seen.release else []
            state.tallies = {item.id: OomKillCounter(item.oom_kills, item.limit) for item in known}
            state.release = seen.release
        state.tallies, kills = count_kills(state.tallies, seen.looks)
        state.kills += kills

    async def _decide(
        self, place: EnvironmentKey, state: _EnvironmentState, seen: InstanceReading, policy: Policy
    ) -> bool:
        """Decides and records; returns False if the deployer could not say whether an OOM kill still counts.

        Kills that are reported meanwhile stay for the next step.
        """
        assert state.past is not None
        considered = list(state.kills)
        kills = await self._unanswered(place, considered) if considered else []
        if kills is None:
            return False
        if kills:
            own = [look for look in seen.looks if look.stats.release == kills[0].release]
            seen = replace(seen, release=kills[0].release, looks=own, kills=kills)
        elif not seen.looks and state.past.last is not None:
            seen = replace(seen, release=state.past.last.release)
        if kills or state.runs:
            await self._record(place, state, decide(seen, policy, state.past, self._clock()))
        del state.kills[: len(considered)]
        return True

    async def _unanswered(self, place: EnvironmentKey, kills: Sequence[Kill]) -> list[Kill] | None:
        """Returns the kills that hit the live release at the limit that is wanted now; None if the deployer does not
        answer.

        A kill below that limit has been answered already, and the deployer itself raises the limit of a release that
        starts.
        """
        try:
            answer = await self._get(_path(place))
        except Problem as problem:
            return [] if problem.status == 404 else None
        view = EnvironmentView.model_validate(answer)
        if view.release is None or view.release.state is not ReleaseState.LIVE:
            return []
        return [kill for kill in kills if kill.release == view.release.id and kill.limit >= view.desired.memory]

    async def _record(self, place: EnvironmentKey, state: _EnvironmentState, verdict: ScalingVerdict) -> None:
        """Stores the verdict, a change together with its event. A repetition is counted in memory, and stored every 10
        s.
        """
        assert state.past is not None
        now, past = self._clock(), state.past
        again = repeated(past.last, verdict, now)
        if again is not None:
            if state.written_at is None or (now - state.written_at).total_seconds() >= WRITTEN_S:
                await self._store.update(again)
                state.written_at = now
            state.past = Past(again, past.change)
        else:
            decision = new_decision(place, past, verdict, now)
            changes = verdict.action is not Action.NONE
            await self._store.add(decision, scaling_event(decision) if changes else None, before=past.last)
            state.written_at = now
            state.past = Past(decision, decision if changes else past.change)
            log.info("%s: %s", place, verdict.reason)

    async def _carry_out(self, state: _EnvironmentState, seen: InstanceReading, policy: Policy) -> None:
        """Applies the open decision, or closes it with a reason.

        Where the deployer does not answer, the next step tries again: the call may arrive twice, and a restarted
        monitor repeats it.
        """
        assert state.past is not None and state.past.change is not None
        decision = state.past.change
        try:
            final, outcome = outdated(decision, seen, policy, self._clock()) or await self._ask(decision, policy)
        except Problem as problem:
            log.warning("%s is not carried out, it is tried again: %s", decision.id, problem.detail)
            return
        after = settled(decision, final, outcome, self._clock())
        await self._store.update(after)
        state.past = Past(after, after)
        log.info("%s is %s: %s", decision.id, final, outcome)

    async def _ask(self, decision: Decision, policy: Policy) -> tuple[DecisionState, str]:
        """Asks the deployer to apply the decision; returns the outcome. Raises Problem for no answer or a 5xx."""
        place = EnvironmentKey(decision.app, decision.environment)
        if decision.action is Action.DOWN:
            answer = await self._get("/stats")
            items = Page[InstanceStats].model_validate(answer).items
            if why := still_idle(decision, [item for item in items if _is_of(item, decision)], policy):
                return DecisionState.SUPERSEDED, why
        body: dict[str, Any] = {"memory": decision.to}
        try:
            await self._deployer.call("PATCH", _path(place), body=body, timeout_s=CALL_S)
        except Problem as problem:
            if problem.status >= 500:
                raise
            return DecisionState.REFUSED, f"the deployer refused: {problem.detail}"
        return DecisionState.APPLIED, "the deployer has taken it over"

    async def _get(self, path: str) -> Any:
        """Reads from the deployer without a retry: the next step asks again."""
        return await self._deployer.call("GET", path, timeout_s=CALL_S, repeatable=False)


def _open(past: Past) -> bool:
    return past.change is not None and past.change.is_open


def _path(place: EnvironmentKey) -> str:
    return f"/apps/{place.app}/environments/{place.environment}"


def _is_of(stats: InstanceStats, decision: Decision) -> bool:
    same = (stats.app, stats.environment, stats.release) == (decision.app, decision.environment, decision.release)
    return same and stats.state in PRESENT
