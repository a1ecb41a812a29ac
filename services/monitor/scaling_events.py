"""Follows events for OOM kills, so that memory is given at once and not at the next look."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import ValidationError

from services.monitor.policy_look import Kill, Place
from shared.events import EventFollower
from shared.models import Environment, Event, InstanceState, View

log = logging.getLogger(__name__)

FAILED = f"instance.{InstanceState.FAILED}"
NEWS = timedelta(seconds=60)  # what is older, the counters have told by now


class OomKill(View):
    """The part of the event `instance.failed` that says of an OOM kill; `memory_limit` and `max_memory` in bytes."""

    oom_killed: bool = False
    environment: Environment
    release: str
    memory_limit: int
    max_memory: int


class KillFollower:
    """`tell` takes each OOM kill, `wake` has it acted on."""

    def __init__(
        self,
        events: EventFollower,
        tell: Callable[[Place, Kill], None],
        wake: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._events = events
        self._tell = tell
        self._wake = wake
        self._clock = clock

    async def step(self) -> None:
        """Waits up to a second for events. What is lost between being confirmed and being acted on, is seen in the
        counters.
        """
        for entry_id, event in await self._events.read():
            kill = oom_kill(event) if event.at > self._clock() - NEWS else None
            if kill is not None:
                self._tell(*kill)
                self._wake()
            await self._events.confirm(entry_id)


def oom_kill(event: Event) -> tuple[Place, Kill] | None:
    """The OOM kill that the event tells of, if it does."""
    if event.type != FAILED or not (event.model_extra or {}).get("oom_killed"):
        return None
    try:
        told = OomKill.model_validate(event.model_extra)
    except ValidationError as error:
        log.warning("an OOM kill that is not understood, event of %s: %s", event.id, error)
        return None
    kill = Kill(event.id, told.release, told.memory_limit, told.max_memory)
    return Place(event.app, told.environment), kill
