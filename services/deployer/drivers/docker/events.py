"""Follows the engine's events in a thread, for kills at the memory limit and for ends of containers."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

from docker.errors import NotFound
from docker.models.containers import Container

from services.deployer.drivers.docker.container import INSTANCE, moment
from services.deployer.drivers.driver import KILLED

log = logging.getLogger(__name__)

AGAIN_S = 1.0
NS_PER_S = 10**9
# The end of a container follows the kill at the memory limit that caused it within 50 ms.
SAME_NS = NS_PER_S
REMEMBERED = 1000
LATE_KILL_S = 0.5


class Stream(Protocol):
    """Yields the engine's events until the connection is lost or closed, and then ends without an error."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...

    def close(self) -> None: ...


class Deaths:
    """Remembers, from the engine's events, the kills at the memory limit and the ends of the last 1000 containers. One
    thread may call `note` while others read.
    """

    def __init__(self) -> None:
        self._kills: dict[str, int] = {}
        self._killed_ns: dict[str, int] = {}
        self._ended_ns: dict[str, int] = {}
        self._since_ns: int | None = None

    def follow(self, since_ns: int) -> None:
        """Sets the time, in nanoseconds since 1970, from which on the caller reads every event of the engine."""
        self._since_ns = since_ns

    def note(self, event: Mapping[str, Any]) -> None:
        container, at = event["Actor"]["ID"], int(event["timeNano"])  # `id` is missing since API 1.52 (Engine 29)
        if event["Action"] == "oom":
            self._kills[container] = self._kills.get(container, 0) + 1
            self._killed_ns[container] = at
        else:
            self._ended_ns[container] = at
        for seen in (self._kills, self._killed_ns, self._ended_ns):
            while len(seen) > REMEMBERED:
                seen.pop(next(iter(seen)))

    def kills(self, container: str) -> int:
        return self._kills.get(container, 0)

    def was_oom(self, container: str) -> bool | None:
        """Returns True if a kill at its memory limit ended the container, and False if something else did. Returns None
        if that is unknown, because the events of its end or of the second before were missed.
        """
        ended = self._ended_ns.get(container)
        if ended is None or self._since_ns is None or ended - self._since_ns < SAME_NS:
            return None
        killed = self._killed_ns.get(container)
        return killed is not None and abs(ended - killed) <= SAME_NS


def with_late_kill(container: Container, now: datetime) -> Container:
    """Returns the container. If it ended by SIGKILL less than half a second ago, waits until then and reads it again: a
    busy engine only afterwards records that a kill at the memory limit was the cause.
    """
    state = container.attrs["State"]
    if not state["Running"] and not state["OOMKilled"] and state["ExitCode"] == KILLED:
        late_s = LATE_KILL_S - (now - moment(state["FinishedAt"])).total_seconds()
        if 0 < late_s <= LATE_KILL_S:
            time.sleep(late_s)
            with contextlib.suppress(NotFound):  # the container was removed in the meantime
                container.reload()
    return container


class EngineEventFollower:
    """Follows the engine's events in a thread, and connects again 1 s after a lost connection. Calls `on_end` in that
    thread: with an instance's id when its container has ended, and with None after each connection, since ends may have
    been missed before it.
    """

    def __init__(
        self,
        connect: Callable[[], Stream],
        deaths: Deaths,
        on_end: Callable[[str | None], None],
        now_ns: Callable[[], int],
    ) -> None:
        self._connect = connect
        self._deaths = deaths
        self._on_end = on_end
        self._now_ns = now_ns
        self._stream: Stream | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="docker-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; waits at most 2 s for it."""
        self._ending.set()
        if self._stream is not None:
            with contextlib.suppress(OSError):  # the connection was lost already
                self._stream.close()
        self._thread.join(timeout=2 * AGAIN_S)

    def _run(self) -> None:
        was_well = True
        while not self._ending.is_set():
            try:
                self._stream = self._connect()
                was_well = True
                self._listen(self._stream)
            except Exception as error:  # the client raises many kinds of errors; none may end the thread
                if was_well and not self._ending.is_set():
                    log.warning("the engine's events cannot be followed: %s", error)
                was_well = False
            self._ending.wait(AGAIN_S)

    def _listen(self, stream: Stream) -> None:
        self._deaths.follow(self._now_ns())
        self._on_end(None)
        if self._ending.is_set():
            stream.close()
        for event in stream:
            self._deaths.note(event)
            if event["Action"] == "die":
                self._on_end(event["Actor"]["Attributes"].get(INSTANCE))
