"""Runs a service's app with uvicorn, at most once for each home folder."""

import asyncio
import contextlib
import fcntl
import gc
import logging
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TextIO

import uvicorn
from starlette.types import ASGIApp

from shared.clock import clock
from shared.config import ServiceName, SharedSettings
from shared.host.port_holder import port_problem

log = logging.getLogger(__name__)

TICK_S = 1.0
START_FAILED = 3  # the exit code of uvicorn


class QuietServer(uvicorn.Server):
    """Runs like `uvicorn.Server`, but wakes only once a second, for the header `Date`, and at a signal. uvicorn's own
    server wakes ten times a second to check for a signal, which took a third of an idle service's CPU time. `step_s`
    returns by how many seconds the machine's clock was set; if it was, the server calls `end`, which by default ends
    the process as SIGTERM does.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        tick_s: float = TICK_S,
        step_s: Callable[[], float] = clock.step_s,
        end: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._tick_s = tick_s
        self._step_s = step_s
        self._end = end or partial(signal.raise_signal, signal.SIGTERM)
        self._signalled = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):  # 0: the tick at which uvicorn renews the Date header
            if step_s := self._step_s():
                log.warning("the machine's clock was set by %+.0f s: this service ends, to start again", step_s)
                self._end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_s):
                    await self._signalled.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._signalled.set)


def serve(app: ASGIApp, settings: SharedSettings, service: ServiceName) -> None:
    """Runs the app until SIGTERM or SIGINT. Exits with a message if the service already runs for this home, or if its
    port is taken.
    """
    port = settings.port(service)
    lock = exclusive(settings.home, service)
    try:
        if problem := port_problem(settings.host, port):
            sys.exit(
                f"port {port} cannot be had: {problem}; end that, or set SLIPWAY_{service.upper()}_PORT to another port"
            )
        # Objects that exist now are excluded from collections: a full one would delay every answer by 0.1 s and more.
        gc.collect()
        gc.freeze()
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=60,
        )
        server = QuietServer(config)
        with contextlib.suppress(KeyboardInterrupt):  # after a SIGINT that uvicorn has handled
            server.run()
        if not server.started:
            sys.exit(START_FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        lock.close()


def exclusive(home: Path, name: str) -> TextIO:
    """Locks `<home>/locks/<name>` until the returned file is closed or the process ends. Exits with a message if
    another process holds the lock. Without the lock, a second deployer would act before it fails, because uvicorn
    starts the loops before it binds the port.
    """
    path = home / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(f"{name} runs already for {home}; end it, or choose another SLIPWAY_HOME")
    return file
