"""Implements `make demo`: takes an app from push to production and prints each step. Exit 0 only if every step held."""

import contextlib
import tempfile
import time
from pathlib import Path

import httpx

from shared.config import SharedSettings
from stack.clients.delivery import Deployable, RequestRefused
from stack.compose.compose_stack import mail_sink_for
from stack.demo.demo_output import DemoOutput
from stack.demo.demo_scenario import APP, DemoScenario, NotHeld
from stack.local.local_stack import LocalStack
from stack.stack_fixture import own_stack, running_stack

FAILURES = (NotHeld, RequestRefused, TimeoutError, httpx.HTTPError, RuntimeError, OSError)


class Ended(Exception):
    """Raised when a step did not hold and its failure has been printed."""


def main() -> int:
    teller = DemoOutput()
    teller.say("Slipway: an app's way from git push to production\n")
    started = time.monotonic()
    try:
        with contextlib.ExitStack() as ending:
            stack = _stack(teller, ending)
            folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="slipway-demo-"))
            _tell(teller, stack, Path(folder))
            runs_on = running_stack()
    except Ended:
        return 1
    except KeyboardInterrupt:
        return 130
    teller.say(f"\nEvery line held; {time.monotonic() - started:.0f} s in all.\n")
    if runs_on is None:
        teller.say("Start the stack:  make local, or make up in containers")
    teller.say(_what_next(runs_on.settings if runs_on else SharedSettings()))
    return 0


def _stack(teller: DemoOutput, ending: contextlib.ExitStack) -> LocalStack:
    """Returns the running stack, or a new one, which ends with `ending`."""
    stack = running_stack()
    if stack is not None:
        teller.held("the stack", f"runs already, is used and left running; so is {APP}")
        return stack
    started = time.monotonic()
    try:
        with teller.busy("the stack"):
            stack = ending.enter_context(own_stack())
    except FAILURES as error:
        teller.failed("the stack", str(error))
        raise Ended from error
    teller.held("the stack", f"Redis, Envoy and five services ready after {time.monotonic() - started:.1f} s")
    return stack


def _tell(teller: DemoOutput, stack: LocalStack, folder: Path) -> None:
    with mail_sink_for(stack) as mail:
        _tell_lines(teller, stack, DemoScenario(Deployable(stack, APP, folder), mail))


def _tell_lines(teller: DemoOutput, stack: LocalStack, story: DemoScenario) -> None:
    for title, line in story.lines():
        try:
            with teller.busy(title):
                measured = line()
        except FAILURES as error:
            teller.failed(title, str(error))
            logs = f"are in {stack.settings.home}/logs/, each build's in logs/builds/"
            teller.say(f"\nThe logs {'are told by make logs' if stack.in_containers() else logs}.")
            raise Ended from error
        teller.held(title, measured)


def _what_next(settings: SharedSettings) -> str:
    return "\n".join(
        [
            f"Then open:        {settings.url('build')}/  builds (any user name, the token in {settings.home}/token)",
            f"                  {settings.url('deployer')}/docs  the API; each of the five services has its own",
            f"                  http://{settings.host}:{settings.public_port}/  what visitors get",
            f"Deploy your own:  git push {settings.url('build')}/git/<app>.git HEAD:release  (HEAD:dev for a canary)",
        ]
    )
