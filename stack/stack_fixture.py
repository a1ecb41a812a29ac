"""Finds the stack that runs on this machine, or starts a temporary one."""

import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from shared.config import SharedSettings
from shared.host import docker_engine
from stack.compose import engine
from stack.local.local_stack import LocalStack, local_stack
from stack.local.programs import ROOT


def running_stack() -> LocalStack | None:
    """Returns the stack to which this environment's settings or `.env` lead, if it is ready; else None."""
    for settings in (SharedSettings(), SharedSettings(_env_file=ROOT / ".env")):
        if settings.token is not None or (settings.home / "token").exists():
            stack = LocalStack(settings)
            if stack.is_ready():
                return stack
    return None


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP raise SystemExit during the block, so that every `with` around it cleans up. To be
    called in the main thread.
    """
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def own_stack(network: str = "") -> Iterator[LocalStack]:
    """Starts a stack on free ports in a temporary home, and ends it after the block. The home is then deleted; after an
    error it is kept for its logs. With a `network`, apps are containers in it; the caller removes the network. To be
    called in the main thread.
    """
    home = Path(tempfile.mkdtemp(prefix="slipway-"))
    failed = False
    with ended_by_signals():
        try:
            with local_stack(home, network=network) as stack:
                yield stack
        except Exception:
            failed = True
            raise
        finally:
            if not failed:
                shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def own_container_stack(app: str) -> Iterator[LocalStack]:
    """Starts `own_stack` with apps in containers, on a network with the name `app`. No other stack on the engine may
    have an app of that name. At the end it removes the app's containers, volumes and network, but not its images.
    """
    with contextlib.ExitStack() as ending:
        ending.callback(engine.remove_network, app)
        ending.callback(engine.remove_made, f"{docker_engine.APP}={app}")
        yield ending.enter_context(own_stack(network=app))


@contextlib.contextmanager
def borrowed_or_own_stack() -> Iterator[LocalStack]:
    """Yields the running stack and leaves it running. If there is none, yields a new one, which ends with the block."""
    running = running_stack()
    if running is not None:
        yield running
        return
    with own_stack() as stack:
        yield stack


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
