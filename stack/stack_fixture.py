"""The stack that runs here already, or one of one's own for as long as it is needed."""

import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from shared.config import SharedSettings
from stack.compose import engine
from stack.local.local_stack import LocalStack, local_stack
from stack.local.programs import ROOT


def running_stack() -> LocalStack | None:
    """The stack that runs here and is ready: where this environment's settings lead to, or those in `.env`."""
    for settings in (SharedSettings(), SharedSettings(_env_file=ROOT / ".env")):
        if settings.token is not None or (settings.home / "token").exists():
            stack = LocalStack(settings)
            if stack.is_ready():
                return stack
    return None


@contextlib.contextmanager
def own_stack(network: str = "") -> Iterator[LocalStack]:
    """A new stack on free ports, in a temporary home that goes with it; after an error the home stays, for its logs.
    With a `network` apps are containers on it, which the caller removes.

    From the main thread only: from now on TERM and HUP leave by way of every `with`, so that the stack ends.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    home = Path(tempfile.mkdtemp(prefix="slipway-"))
    failed = False
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
    """`own_stack` for one app as containers, on a network of its name: an `app` that no other stack on the engine has.
    Its containers, volumes and the network go with the stack; its images stay.
    """
    with contextlib.ExitStack() as ending:
        ending.callback(engine.remove_network, app)
        ending.callback(engine.remove_made, f"{engine.APP}={app}")
        yield ending.enter_context(own_stack(network=app))


@contextlib.contextmanager
def borrowed_or_own_stack() -> Iterator[LocalStack]:
    """The one that runs, which is left running; else a new one, which ends with the block."""
    running = running_stack()
    if running is not None:
        yield running
        return
    with own_stack() as stack:
        yield stack


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
