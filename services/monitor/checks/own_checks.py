"""Calls apps' own metrics and hooks while their canaries are analysed, and says which canaries fail by the answers."""

from collections.abc import Callable, Iterable
from datetime import datetime

from pydantic import JsonValue

from services.monitor.checks.analysis_settings import (
    AnalysisBody,
    AnalysisSettings,
    HookTime,
    OutsideCall,
    OwnMetric,
    changed,
)
from services.monitor.checks.check_client import CheckClient, CheckError
from services.monitor.checks.check_state import (
    CheckKind,
    CheckResult,
    CheckState,
    answered,
    is_to_be_told,
    key_of,
    measured,
    new_states,
    unanswered,
)
from services.monitor.checks.check_store import CheckStore
from services.monitor.progress.gate import GateCheck
from services.monitor.samples.sample import is_of_app
from shared.errors import Unavailable
from shared.models import Environment, Event
from shared.proxy_models import RolloutView, VerdictResult, VerdictSummary
from shared.runtime.keyed_tasks import KeyedTasks
from shared.security.vault import Vault, VaultError
from shared.store import RedisError, redis_words

AT_A_TIME = 20
ENDED_KEPT = 50  # rollouts whose last results are kept, for their evidence
RULE = "analysis"
ERROR_EVENT = "analysis.error"

Verdicts = Callable[[str], VerdictSummary | None]
"""Returns the present verdict about a release; None if there is none."""


class OwnChecks:
    """Calls apps' own metrics and hooks (checks) in all open rollouts, each at its own interval and in a task of its
    own, so that a server that hangs delays no other check. Also holds the settings of the checks in memory, and changes
    them. `rollouts` returns the open rollouts; `vault` returns the vault that encrypts the values of headers.
    """

    def __init__(
        self,
        store: CheckStore,
        client: CheckClient,
        vault: Callable[[], Vault],
        rollouts: Callable[[], Iterable[RolloutView]],
        verdict: Verdicts,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._client = client
        self._vault = vault
        self._rollouts = rollouts
        self._verdict = verdict
        self._clock = clock
        self._settings: dict[str, AnalysisSettings] | None = None  # None: not read yet
        self._states: dict[str, dict[str, CheckState]] = {}
        self._tasks = KeyedTasks("own checks", at_a_time=AT_A_TIME)
        self._untold: list[Event] = []
        self._problem = "Redis has not been asked yet"

    # --- settings

    async def load(self) -> dict[str, AnalysisSettings]:
        """Returns app → settings; reads them from the store the first time. Raises RedisError if that is not
        possible.
        """
        if self._settings is None:
            try:
                found = await self._store.settings()
            except RedisError as error:
                self._problem = redis_words(error)
                raise
            if self._settings is None:
                self._settings = found
        return self._settings

    async def put(self, app: str, body: AnalysisBody) -> AnalysisSettings:
        """Stores the app's settings, then applies them; checks that stay the same keep their state. Raises Invalid if
        the settings cannot be used, Unavailable if the key for header values cannot be read, and RedisError.
        """
        settings = await self.load()
        try:
            new = changed(app, body, settings.get(app), lambda value: self._vault().seal(value), self._clock())
        except (VaultError, OSError) as error:
            raise Unavailable(f"the values of headers cannot be encrypted: {error}") from error
        await self._store.put(new)
        before, settings[app] = settings.get(app), new
        self._forget_changed(app, before, new)
        return new

    async def delete(self, app: str) -> bool:
        """Deletes the app's settings; returns True if there were any. Raises RedisError, and then changes nothing."""
        settings = await self.load()
        await self._store.delete(app)
        before = settings.pop(app, None)
        self._forget_changed(app, before, None)
        return before is not None

    async def forget(self, app: str) -> None:
        """Deletes all that is held and stored about the app. Raises RedisError."""
        await self._store.forget(app)
        if self._settings is not None:
            self._settings.pop(app, None)
        self._states = {release: states for release, states in self._states.items() if not is_of_app(release, app)}

    def _forget_changed(self, app: str, before: AnalysisSettings | None, after: AnalysisSettings | None) -> None:
        earlier = _calls(before)
        same = {key for key, call in _calls(after).items() if earlier.get(key) == call}
        fresh = new_states(after) if after else {}
        for release, states in self._states.items():
            if is_of_app(release, app):
                self._states[release] = {
                    key: states.get(key, new) if key in same else new for key, new in fresh.items()
                }

    # --- what follows

    def failure(self, release: str) -> str | None:
        """Returns which of its app's own metrics and hooks the canary failed, and why; None if it failed none."""
        for state in self._states.get(release, {}).values():
            if state.result is CheckResult.FAIL:
                return f"{state.title}: {state.reason}"
        return None

    async def gate_checks(self, app: str, release: str, step: int) -> list[GateCheck]:
        """Returns the result of each own check (metric or hook) of the app at the end of a step of its rollout. Hooks
        with `when: before` count only at the first step, 0. A check without an answer is inconclusive, which holds the
        step; it never fails a canary.
        """
        if self._settings is None:
            why = f"they are not known yet: {self._problem}"
            return [GateCheck("own metrics and hooks", VerdictResult.INCONCLUSIVE, why)]
        settings = self._settings.get(app)
        if settings is None:
            return []
        if (failure := self.failure(release)) is not None:
            return [GateCheck(RULE, VerdictResult.FAIL, failure)]
        states, now = new_states(settings) | self._states.get(release, {}), self._clock()
        asked = [state for state in states.values() if state.kind is not CheckKind.BEFORE or step == 0]
        return [_gate_check(state, state.hold(now)) for state in asked]

    def states(self, release: str) -> list[CheckState]:
        """Returns the states of the app's own metrics and hooks in the release's rollout; empty if it has none."""
        return list(self._states.get(release, {}).values())

    # --- calls

    async def step(self) -> None:
        """Begins the checks that are due in the open rollouts. Raises RedisError if the settings could not be read yet,
        or if an event about a check without an answer could not be stored.
        """
        settings = await self.load()
        current = {rollout.release: rollout for rollout in self._rollouts() if rollout.release}
        ended = [release for release in self._states if release not in current]
        for release in ended[:-ENDED_KEPT]:  # oldest first
            del self._states[release]
        for release, rollout in current.items():
            if (own := settings.get(rollout.app)) is not None:
                states = self._states.setdefault(release, new_states(own))
                for key in [key for key, state in states.items() if state.is_due(self._clock())]:
                    self._start(rollout, release, key, _calls(own)[key])
        while self._untold:
            await self._store.tell(self._untold[0])
            del self._untold[0]

    def _start(self, rollout: RolloutView, release: str, key: str, call: OutsideCall) -> None:
        async def check() -> None:
            before = self._states.get(release, {}).get(key)
            if before is None:  # the settings were changed since
                return
            after = await self._made(before, call, rollout)
            if self._states.get(release, {}).get(key) is before:  # else it was changed or removed meanwhile
                self._states[release][key] = after
                if is_to_be_told(after):
                    self._untold.append(error_event(rollout.app, release, after, self._clock()))

        self._tasks.start((release, key), check)

    async def _made(self, state: CheckState, call: OutsideCall, rollout: RolloutView) -> CheckState:
        try:
            headers = self.headers(call)
            if state.kind is CheckKind.METRIC:
                assert isinstance(call, OwnMetric)
                return measured(state, call, await self._client.value(call.url, headers), self._clock())
            body = hook_body(rollout, state.kind.value, self._verdict(rollout.release or ""))
            return answered(state, await self._client.refusal(call.url, headers, body), self._clock())
        except CheckError as error:
            return unanswered(state, str(error), self._clock())

    def headers(self, call: OutsideCall) -> dict[str, str]:
        """Returns the headers of the call in plain text. Raises CheckError if they cannot be decrypted."""
        try:
            return {name: self._vault().open(sealed) for name, sealed in call.headers.items() if sealed is not None}
        except (VaultError, OSError):
            raise CheckError("its headers cannot be decrypted; set their values again") from None

    async def close(self) -> None:
        """Cancels the calls that are under way."""
        await self._tasks.close()


def _gate_check(state: CheckState, hold: str | None) -> GateCheck:
    result = VerdictResult.PASS if hold is None else VerdictResult.INCONCLUSIVE
    return GateCheck(state.title, result, hold or state.reason)


def hook_body(rollout: RolloutView, when: str, verdict: VerdictSummary | None) -> dict[str, JsonValue]:
    """Returns the JSON body that a hook gets: release, step and state of the rollout, and the verdict so far. `when` is
    `before`, `during` or `after`.
    """
    return {
        "app": rollout.app,
        "release": rollout.release,
        "environment": Environment.CANARY.value,
        "when": when,
        "step": rollout.step,
        "weight": rollout.weight,
        "state": rollout.state.value if rollout.state else None,
        "reason": rollout.reason,
        "verdict": verdict.model_dump(mode="json") if verdict else None,
    }


def error_event(app: str, release: str, state: CheckState, now: datetime) -> Event:
    """Returns the event which reports that a check gave no answer that can be judged in several calls in a row."""
    return Event(
        type=ERROR_EVENT,
        app=app,
        at=now,
        id=release,
        reason=f"{state.title} {state.reason}",
        release=release,
        environment=Environment.CANARY.value,
        check=state.name,
        kind=state.kind.value,
    )


def _calls(settings: AnalysisSettings | None) -> dict[str, OutsideCall]:
    if settings is None:
        return {}
    metrics = {key_of(CheckKind.METRIC, each.name): each for each in settings.metrics}
    hooks = [each for each in settings.hooks if each.when is not HookTime.AFTER]
    return {**metrics, **{key_of(CheckKind(each.when), each.name): each for each in hooks}}
