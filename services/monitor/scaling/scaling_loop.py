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
class _Desk:
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
        self._desks: dict[EnvironmentKey, _Desk] = {}
        self._ready: dict[tuple[str, datetime], datetime] = {}
        self._resumed = False

    def killed(self, place: EnvironmentKey, kill: Kill) -> None:
        """Records an OOM kill from an event; the next step handles it. Repeated reports of one kill have no effect."""
        self._desks.setdefault(place, _Desk()).kills.append(kill)

    async def step(self) -> None:
        """Looks at each environment once. Raises the first error, after all had their turn."""
        looks = self._looks()
        if not self._resumed:
            for place in await self._store.places():
                self._desks.setdefault(place, _Desk(past=await self._store.past(place), runs=False))
            self._resumed = True
        policies = {policy.place: policy for policy in await self._store.policies()}
        for place in looks:
            self._desks.setdefault(place, _Desk())
        for place, desk in self._desks.items():
            if looks:  # else the deployer does not answer, and what ran may run still
                desk.runs = place in looks
        turns = [
            self._turn(place, desk, looks.get(place, []), policies.get(place) or default_policy(place))
            for place, desk in self._desks.items()
            if desk.runs or desk.kills or desk.past is None or _open(desk.past)
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

    async def _turn(self, place: EnvironmentKey, desk: _Desk, looks: Sequence[ScalingInput], policy: Policy) -> None:
        seen = see(looks)
        try:
            if desk.past is None:
                desk.past = await self._store.past(place)
            self._count_kills(desk, seen)
            if not _open(desk.past) and not await self._decide(place, desk, seen, policy):
                return
            if _open(desk.past):
                await self._carry_out(desk, seen, policy)
        except RedisError:
            desk.past = None  # nobody knows what was written
            raise

    def _count_kills(self, desk: _Desk, seen: InstanceReading) -> None:
        """Records new OOM kills; after a start, those since the last stored entry."""
        if not seen.looks:
            return
        if desk.release != seen.release:
            last = desk.past.last if desk.past else None
            known = last.inputs if last and last.release == seen.release else []
            desk.tallies = {item.id: OomKillCounter(item.oom_kills, item.limit) for item in known}
            desk.release = seen.release
        desk.tallies, kills = count_kills(desk.tallies, seen.looks)
        desk.kills += kills

    async def _decide(self, place: EnvironmentKey, desk: _Desk, seen: InstanceReading, policy: Policy) -> bool:
        """Decides and records; returns False if the deployer could not say whether an OOM kill still counts.

        Kills that are reported meanwhile stay for the next step.
        """
        assert desk.past is not None
        considered = list(desk.kills)
        kills = await self._unanswered(place, considered) if considered else []
        if kills is None:
            return False
        if kills:
            own = [look for look in seen.looks if look.stats.release == kills[0].release]
            seen = replace(seen, release=kills[0].release, looks=own, kills=kills)
        elif not seen.looks and desk.past.last is not None:
            seen = replace(seen, release=desk.past.last.release)
        if kills or desk.runs:
            await self._record(place, desk, decide(seen, policy, desk.past, self._clock()))
        del desk.kills[: len(considered)]
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

    async def _record(self, place: EnvironmentKey, desk: _Desk, verdict: ScalingVerdict) -> None:
        """Stores the verdict, a change together with its event. A repetition is counted in memory, and stored every 10
        s.
        """
        assert desk.past is not None
        now, past = self._clock(), desk.past
        again = repeated(past.last, verdict, now)
        if again is not None:
            if desk.written_at is None or (now - desk.written_at).total_seconds() >= WRITTEN_S:
                await self._store.update(again)
                desk.written_at = now
            desk.past = Past(again, past.change)
        else:
            decision = new_decision(place, past, verdict, now)
            changes = verdict.action is not Action.NONE
            await self._store.add(decision, scaling_event(decision) if changes else None, before=past.last)
            desk.written_at = now
            desk.past = Past(decision, decision if changes else past.change)
            log.info("%s: %s", place, verdict.reason)

    async def _carry_out(self, desk: _Desk, seen: InstanceReading, policy: Policy) -> None:
        """Applies the open decision, or closes it with a reason.

        Where the deployer does not answer, the next step tries again: the call may arrive twice, and a restarted
        monitor repeats it.
        """
        assert desk.past is not None and desk.past.change is not None
        decision = desk.past.change
        try:
            state, outcome = outdated(decision, seen, policy, self._clock()) or await self._ask(decision, policy)
        except Problem as problem:
            log.warning("%s is not carried out, it is tried again: %s", decision.id, problem.detail)
            return
        after = settled(decision, state, outcome, self._clock())
        await self._store.update(after)
        desk.past = Past(after, after)
        log.info("%s is %s: %s", decision.id, state, outcome)

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
