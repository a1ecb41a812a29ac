"""Defines what both build and deployer need for a Docker Engine: the labels of a stack's objects, the check for `GET
/ready`, and a loop that notices a new socket. It imports no Docker client.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from shared.runtime.loops import Loop

log = logging.getLogger(__name__)

STACK = "io.slipway.stack"  # label of everything that a stack creates; containers of our images inherit it
APP = "io.slipway.app"
OWN_TAG = "slipway/"  # prefix of every tag that the build service gives
ANY_VERSION = "1.41"  # of the API, for clients that would first ask for it; it is not sent
PERMISSION = "Permission denied"
# `/ready` must answer in under 2 s: a call of the engine ends after 1 s, and its caller waits no longer than 1.5 s.
ASKED_S, WAITED_S = 1, 1.5
LOOK_S = 2.0


def socket_watch(environment: Mapping[str, str]) -> Loop:
    """Returns a loop that ends this process by SIGTERM when the Docker Engine's unix socket has been replaced, since
    only a restarted container gets the new one. `environment` may hold DOCKER_HOST; without it, the socket is
    `/var/run/docker.sock`.
    """
    watch = SocketWatch(environment, lambda: signal.raise_signal(signal.SIGTERM))
    return Loop("engine's socket", watch.step, every_s=LOOK_S)


class SocketWatch:
    """Calls `end` when the Docker Engine's unix socket, which DOCKER_HOST in `environment` names, has been replaced. An
    engine that restarts listens on a new socket file, but a running container keeps the old file; only a restarted
    container gets the new one. Does nothing for an engine that is reached by TCP.
    """

    def __init__(self, environment: Mapping[str, str], end: Callable[[], None]) -> None:
        self._path = Path(environment.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
        self._end = end

    async def step(self) -> None:
        try:
            is_gone = os.stat(self._path).st_nlink == 0
        except OSError:  # the engine is reached by TCP, or is not installed
            return
        if is_gone:
            log.warning("the engine's socket was replaced; this service ends, to be started again with the new one")
            self._end()


def no_answer(error: BaseException) -> str:
    """Returns the reason why the Docker Engine does not answer, with the remedy, as a sentence for people. `error` is
    what its client raised.
    """
    if PERMISSION in str(error):
        return (
            "the Docker Engine's socket refuses this user (permission denied); give it the group of the socket: "
            "DOCKER_GID in .env, as `stat -c %g /var/run/docker.sock` says, or `usermod -aG docker <user>`"
        )
    why = str(error) or type(error).__name__
    return f"the Docker Engine does not answer ({why}); start it, or set DOCKER_HOST to where it is"


async def engine_check(ask: Callable[[], object]) -> str | None:
    """Returns None if the Docker Engine answers, else the reason as a sentence for `GET /ready`. Takes at most 1.5 s.
    `ask` calls the engine and raises an exception if that fails; it runs in a thread, and should give up after 1 s. If
    all threads stay busy for 1.5 s, the engine counts as not answering.
    """
    try:
        await asyncio.wait_for(asyncio.to_thread(ask), WAITED_S)
    except TimeoutError:
        return no_answer(TimeoutError(f"nothing for {WAITED_S:g} s"))
    except Exception as error:  # the client raises many kinds of errors
        return no_answer(error)
    return None
