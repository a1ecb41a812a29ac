"""Runs the steps of the demo and prints each. Exits with 0 only if every step succeeded."""

import contextlib
import tempfile
import time
from pathlib import Path

import httpx

from shared.config import SharedSettings
from stack.clients.delivery import Deployable, RequestRefused
from stack.compose.compose_stack import mail_sink_for
from stack.demo.demo_output import DemoOutput
from stack.demo.demo_scenario import APP, DemoScenario, StepFailed
from stack.local.local_stack import LocalStack
from stack.stack_fixture import own_stack, running_stack

FAILURES = (StepFailed, RequestRefused, TimeoutError, httpx.HTTPError, RuntimeError, OSError)


class DemoFailed(Exception):
    """Reports that a step failed. Its failure has already been printed."""


def main() -> int:
    output = DemoOutput()
    output.say("Slipway: an app's way from git push to production\n")
    started = time.monotonic()
    try:
        with contextlib.ExitStack() as ending:
            stack = _stack(output, ending)
            folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="slipway-demo-"))
            _run_steps(output, stack, Path(folder))
            runs_on = running_stack()
    except DemoFailed:
        return 1
    except KeyboardInterrupt:
        return 130
    output.say(f"\nEvery line held; {time.monotonic() - started:.0f} s in all.\n")
    if runs_on is None:
        output.say("Start the stack:  make local, or make up in containers")
    output.say(_what_next(runs_on.settings if runs_on else SharedSettings()))
    return 0


def _stack(output: DemoOutput, ending: contextlib.ExitStack) -> LocalStack:
    """Returns the running stack. If there is none, starts one that is stopped when `ending` is closed."""
    stack = running_stack()
    if stack is not None:
        output.passed("the stack", f"runs already, is used and left running; so is {APP}")
        return stack
    started = time.monotonic()
    try:
        with output.busy("the stack"):
            stack = ending.enter_context(own_stack())
    except FAILURES as error:
        output.failed("the stack", str(error))
        raise DemoFailed from error
    output.passed("the stack", f"Redis, Envoy and five services ready after {time.monotonic() - started:.1f} s")
    return stack


def _run_steps(output: DemoOutput, stack: LocalStack, folder: Path) -> None:
    with mail_sink_for(stack) as mail:
        for title, step in DemoScenario(Deployable(stack, APP, folder), mail).steps():
            try:
                with output.busy(title):
                    measured = step()
            except FAILURES as error:
                output.failed(title, str(error))
                logs = f"are in {stack.settings.home}/logs/, each build's in logs/builds/"
                output.say(f"\nThe logs {'are shown by make logs' if stack.in_containers() else logs}.")
                raise DemoFailed from error
            output.passed(title, measured)


def _what_next(settings: SharedSettings) -> str:
    return "\n".join(
        [
            f"Then open:        {settings.url('build')}/  builds (any user name, the token in {settings.home}/token)",
            f"                  {settings.url('deployer')}/docs  the API; each of the five services has its own",
            f"                  http://{APP}.{settings.domain}:{settings.public_port}/  what visitors get",
            f"Deploy your own:  git push {settings.url('build')}/git/<app>.git HEAD:release  (HEAD:dev for a canary)",
        ]
    )
