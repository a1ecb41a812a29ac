"""Measures for `make bench-build` how soon after a push its first step begins, and the platform's overhead in a build
whose steps do nothing.

Uses stacks of its own: steps as processes, then, where a Docker Engine answers, in containers. Twenty pushes each, one
after another; each is deployed too, which is not measured here. Then a long log (bench/long_log.py). Exit 1 if a median
misses its goal.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.build_overhead import HEAD, Goals, Overhead, are_met, overhead, table
from bench.long_log import long_log
from shared.host import docker_engine
from shared.models import Environment
from stack.clients.delivery import BRANCH, LIVE_WITHIN_S, Deployable, RequestRefused, indented
from stack.compose import engine
from stack.compose.engine import EngineError
from stack.local.local_stack import LocalStack
from stack.stack_fixture import own_container_stack, own_stack

APP = "slipway-bench"
SOURCE = Path(__file__).parent / "app"
STEPS = ["build", "test", "analysis"]  # one in each stage, named like it
REUSED = 5
SETTLE_S = 1.0  # until the instance before is gone: its end is no part of the next build
ON_PROCESSES, IN_CONTAINERS = Goals(1.0, 2.0), Goals(2.0, 4.0)
NOTE = """
first step begins: as the build's record says; in containers its container is made after that, so the command itself
runs before the step has ended. The steps' own commands (`true`) take next to nothing: all the rest is the platform's,
also what lies in the steps (starting, clearing away)."""


class BuildBench:
    """Pushes commits of one app and measures their builds."""

    def __init__(self, stack: LocalStack, name: str, folder: Path) -> None:
        self._app = Deployable(stack, name, folder)
        self._number = 0
        self._app.repository.copy_from(SOURCE)
        steps = "".join(f'  - {{name: {stage}, stage: {stage}, commands: ["true"]}}\n' for stage in STEPS)
        manifest = f"app: {name}\nsteps:\n{steps}run: {{command: python server.py, health: /up}}\n"
        (folder / "slipway.yml").write_text(manifest)

    def push(self) -> Overhead:
        """Pushes a new commit and returns its overhead once it is live. Raises RequestRefused."""
        app = self._app
        self._number += 1
        (app.repository.folder / "edit.txt").write_text(f"edit {self._number}\n")
        commit = app.repository.commit(f"edit {self._number}")
        time.sleep(SETTLE_S)
        pushed_at = datetime.now(UTC)
        pushed = app.repository.push(BRANCH[Environment.PRODUCTION]).finish(LIVE_WITHIN_S)
        [build] = app.call("build", "GET", f"/apps/{app.app}/builds?limit=1")["items"]
        if build["commit"] != commit or build["state"] != "success" or not _all_ran(build):
            raise RequestRefused(f"edit {self._number} did not pass and become live\n{indented(pushed)}")
        return overhead(build, pushed_at)

    def reuse(self) -> float:
        """Pushes a commit to dev, then to release; returns the seconds from the second push until it was sealed.

        Raises RequestRefused if it was built twice.
        """
        app = self._app
        self._number += 1
        (app.repository.folder / "edit.txt").write_text(f"edit {self._number}\n")
        app.repository.commit(f"edit {self._number}")
        app.repository.push(BRANCH[Environment.CANARY]).finish(LIVE_WITHIN_S)
        time.sleep(SETTLE_S)
        pushed_at = datetime.now(UTC)
        pushed = app.repository.push(BRANCH[Environment.PRODUCTION]).finish(LIVE_WITHIN_S)
        [build] = app.call("build", "GET", f"/apps/{app.app}/builds?limit=1")["items"]
        if build["reused"] is None or build["state"] != "success":
            raise RequestRefused(f"edit {self._number} was built twice\n{indented(pushed)}")
        return (datetime.fromisoformat(build["sealed_at"]) - pushed_at).total_seconds()


def measure(bench: BuildBench, pushes: int, where: str, goals: Goals) -> bool:
    """Prints the table, and returns whether the medians are below the goals."""
    load = os.getloadavg()[0]
    first = bench.push()  # makes the app, and what later builds find in its cache
    print(f"{where}, {pushes} pushes; load of the machine before: {load:.1f} on {os.cpu_count()} cores", flush=True)
    print(f"the very first push, not counted: {first.first_step_s:.2f} s, {first.sealed_s:.2f} s", flush=True)
    builds = [bench.push() for _ in range(pushes)]
    print("\n".join(["", HEAD, *table(builds, goals), ""]), flush=True)
    reused = sorted(bench.reuse() for _ in range(REUSED))
    print(f"a commit that passed on dev, pushed to release: sealed after {median(reused):.2f} s (median of {REUSED})\n")
    return are_met(builds, goals)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.build", description=__doc__)
    parser.add_argument("--pushes", type=int, default=20, help="of each, at least 1")
    pushes = max(parser.parse_args().pushes, 1)
    with own_stack() as stack, _folder() as folder:
        held = measure(BuildBench(stack, APP, folder), pushes, "steps as processes", ON_PROCESSES)
    if engine.answers():
        name = f"{APP}-{uuid.uuid4().hex[:6]}"
        with contextlib.ExitStack() as ending:
            ending.callback(engine.remove_images, f"{docker_engine.APP}={name}")
            stack, folder = ending.enter_context(own_container_stack(name)), ending.enter_context(_folder())
            held &= measure(BuildBench(stack, name, folder), pushes, "steps in containers", IN_CONTAINERS)
    else:
        print("steps in containers: skipped: no Docker Engine answers")
    print(f"{NOTE}\n", flush=True)
    long_log()
    return 0 if held else 1


def _all_ran(build: dict[str, Any]) -> bool:
    return [step["name"] for step in build["steps"]] == STEPS


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        yield Path(folder)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RequestRefused, EngineError, TimeoutError, RuntimeError) as error:
        sys.exit(f"bench-build: {error}")
