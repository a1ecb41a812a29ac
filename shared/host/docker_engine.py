"""What build and deployer both know of a Docker Engine: by which labels a stack finds its own things, and what to do
when the engine does not answer. Nothing here talks to it.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from shared.runtime.loops import Loop

log = logging.getLogger(__name__)

STACK = "io.slipway.stack"  # on everything that a stack makes; what runs from an image of ours inherits it
APP = "io.slipway.app"
ANY_VERSION = "1.41"  # of the API, for clients that would else ask before they are asked; it is not sent
PERMISSION = "Permission denied"
# `/ready` is to answer in under 2 s: what asks the engine ends after 1 s, and nobody waits longer for it than this.
ASKED_S, WAITED_S = 1, 1.5
LOOK_S = 2.0


def socket_watch(environment: Mapping[str, str]) -> Loop:
    """Ends this process by SIGTERM when the engine's socket is not the one that it has."""
    watch = SocketWatch(environment, lambda: signal.raise_signal(signal.SIGTERM))
    return Loop("engine's socket", watch.step, every_s=LOOK_S)


class SocketWatch:
    """`step` is a loop's. A container holds the very socket that was mounted into it, but an engine that was restarted
    beside its running containers listens on a new one. `end` is called then: a container started again gets that.
    """

    def __init__(self, environment: Mapping[str, str], end: Callable[[], None]) -> None:
        self._path = Path(environment.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
        self._end = end

    async def step(self) -> None:
        try:
            is_gone = os.stat(self._path).st_nlink == 0
        except OSError:  # an engine by TCP, or none here
            return
        if is_gone:
            log.warning("the engine's socket was replaced; this service ends, to be started again with the new one")
            self._end()


def no_answer(error: BaseException) -> str:
    """What is not well, and the remedy, in words for a person."""
    if PERMISSION in str(error):
        return (
            "the Docker Engine's socket refuses this user (permission denied); give it the group of the socket: "
            "DOCKER_GID in .env, as `stat -c %g /var/run/docker.sock` says, or `usermod -aG docker <user>`"
        )
    why = str(error) or type(error).__name__
    return f"the Docker Engine does not answer ({why}); start it, or set DOCKER_HOST to where it is"


async def engine_check(ask: Callable[[], object]) -> str | None:
    """For `/ready`: None if the engine answers. `ask` runs in a thread, raises what its client does, and gives up after
    ASKED_S; while all threads wait for an engine that hangs, it is not even begun.
    """
    try:
        await asyncio.wait_for(asyncio.to_thread(ask), WAITED_S)
    except TimeoutError:
        return no_answer(TimeoutError(f"nothing for {WAITED_S:g} s"))
    except Exception as error:  # its client has many kinds
        return no_answer(error)
    return None
