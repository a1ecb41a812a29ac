"""Calls apps' hooks after a rollout has ended, and repeats each call until the hook answers. Calls are stored before
they are made.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import JsonValue

from services.monitor.checks.analysis_settings import HookTime
from services.monitor.checks.check_client import CheckClient, CheckError
from services.monitor.checks.check_state import TOLD_AFTER, CheckKind, CheckState, unanswered
from services.monitor.checks.check_store import CheckStore, DueHook
from services.monitor.checks.own_checks import OwnChecks, Verdicts, error_event, hook_body
from shared.models import Event
from shared.proxy_models import RolloutState, RolloutView
from shared.runtime.backoff import backoff_s
from shared.runtime.keyed_tasks import KeyedTasks

log = logging.getLogger(__name__)

AT_A_TIME = 4
LONGEST = timedelta(minutes=5)
FIRST_S, GIVE_UP_S, LEAST_TRIES = 5.0, 86_400.0, 10
ENDED = {f"rollout.{state}": state for state in (RolloutState.PROMOTED, RolloutState.ABORTED)}


class AfterHooks:
    """Calls each of an app's hooks with `when: after` at least once for each rollout that has ended. The call is stored
    before the event of the end is acknowledged, and repeated with back-off for a day until the hook answers.
    """

    def __init__(
        self,
        store: CheckStore,
        client: CheckClient,
        checks: OwnChecks,
        verdict: Verdicts,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._client = client
        self._checks = checks
        self._verdict = verdict
        self._clock = clock
        self._wake = wake
        self._due: dict[str, DueHook] | None = None  # None: not read yet
        self._tasks = KeyedTasks("hooks after a rollout", wake, at_a_time=AT_A_TIME)

    async def on_event(self, event: Event) -> None:
        """Stores a call of each of the app's hooks with `when: after`, if the event says that a rollout has ended.
        Raises RedisError; the event must then be handled again.
        """
        if (state := ENDED.get(event.type)) is None:
            return
        settings = (await self._checks.load()).get(event.app)
        hooks = [each for each in settings.hooks if each.when is HookTime.AFTER] if settings else []
        if not hooks:
            return
        extra = event.model_extra or {}
        rollout = RolloutView(
            app=event.app,
            release=event.id,
            state=state,
            reason=event.reason,
            weight=extra.get("weight", 0),
            step=extra.get("step", 0),
        )
        body = hook_body(rollout, HookTime.AFTER.value, self._verdict(event.id))
        await self._add([self._new(event, each.name, body) for each in hooks])

    def _new(self, event: Event, hook: str, body: dict[str, JsonValue]) -> DueHook:
        name, now = f"{event.id}:{event.type}:{hook}", self._clock()
        return DueHook(id=name, app=event.app, hook=hook, body=body, created_at=now, next_at=now)

    async def _add(self, hooks: list[DueHook]) -> None:
        due = await self._load()
        await self._store.put_due(hooks)
        due |= {each.id: each for each in hooks}
        self._wake()

    async def _load(self) -> dict[str, DueHook]:
        if self._due is None:
            found = {each.id: each for each in await self._store.due()}
            self._due = found if self._due is None else self._due
        return self._due

    async def step(self) -> float | None:
        """Begins the calls that are due. Returns the seconds until the next call, or None if no call is left. Raises
        RedisError if the stored calls could not be read yet.
        """
        due, now = await self._load(), self._clock()
        for hook in sorted(due.values(), key=lambda each: each.next_at):
            if not timedelta() < hook.next_at - now <= LONGEST:  # the clock may have been set back
                self._tasks.start(hook.id, lambda hook=hook: self._call(hook))  # type: ignore[misc]
        waits = [(each.next_at - now).total_seconds() for each in due.values() if not self._tasks.runs(each.id)]
        return max(0.1, min(waits)) if waits else None

    async def _call(self, hook: DueHook) -> None:
        settings = (await self._checks.load()).get(hook.app)
        found = [each for each in settings.hooks if each.name == hook.hook] if settings else []
        if found:
            try:
                refusal = await self._client.refusal(found[0].url, self._checks.headers(found[0]), hook.body)
            except CheckError as error:
                await self._failed(hook, str(error))
                return
            log.info("hook %s of %s was called: %s", hook.hook, hook.app, refusal or "it passes")
        await self._settle(hook)

    async def _failed(self, hook: DueHook, error: str) -> None:
        now = self._clock()
        is_old = (now - hook.created_at).total_seconds() >= GIVE_UP_S
        if is_old and hook.tries + 1 >= LEAST_TRIES:
            log.error("hook %s of %s is given up after %d tries: %s", hook.hook, hook.app, hook.tries + 1, error)
            await self._settle(hook)
            return
        later = hook.later(backoff_s(hook.tries + 1, first_s=FIRST_S, longest_s=LONGEST.total_seconds()), now)
        if later.tries == TOLD_AFTER:
            state = unanswered(CheckState(name=hook.hook, kind=CheckKind.AFTER), error, now)
            await self._store.tell(error_event(hook.app, str(hook.body["release"]), state, now))
        await self._add([later])

    async def _settle(self, hook: DueHook) -> None:
        await self._store.settle(hook)
        (await self._load()).pop(hook.id, None)

    def forget(self, app: str) -> None:
        """Drops the calls for an app that was removed from memory; `OwnChecks.forget` deletes the stored ones."""
        if self._due is not None:
            self._due = {name: hook for name, hook in self._due.items() if hook.app != app}

    async def close(self) -> None:
        """Cancels the calls under way; they are made again after the next start."""
        await self._tasks.close()
