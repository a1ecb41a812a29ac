"""Measures for `make bench-deploy` how releases, a rollback, a canary, its abort and a promotion affect visitors.

On a stack of its own, 200 requests a second come to the public port meanwhile. Exit 1 if one of them is lost, or if for
300 ms none is answered. Then bench/containers.py, where a Docker Engine answers.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.containers import compare
from shared.models import Environment
from stack.clients.delivery import NOTES, Deployable, RequestRefused
from stack.clients.load import Load
from stack.clients.probe_client import wait_for, wait_for_commit
from stack.compose.engine import EngineError
from stack.stack_fixture import own_stack

APP = "slipway-bench"
LONGEST_GAP_MS = 300
SETTLE_S = 2.0  # until slow answers have ended and old instances are gone, so that each row has its own losses
HEAD = f"{'':22}{'push→live':>12}{'artifact→live':>16}{'requests':>10}{'lost':>6}{'largest gap':>13}"

Durations = tuple[float | None, float]  # seconds from the push, and from the artifact (or the call)


class DeployBench:
    """Runs the actions; each returns how long it took until visitors noticed."""

    def __init__(self, app: Deployable) -> None:
        self._app = app
        self._commits: list[str] = []
        self._number = 0

    def release(self) -> Durations:
        return self._deliver(Environment.PRODUCTION)

    def canary(self) -> Durations:
        return self._deliver(Environment.CANARY)

    def rollback(self) -> Durations:
        app = self._app
        started = time.monotonic()
        app.call("deployer", "POST", f"/apps/{app.app}/environments/production/rollback", {})
        wait_for_commit(app.production, self._commits[-2], host=app.host)
        return None, time.monotonic() - started

    def abort(self) -> Durations:
        app = self._app
        started = time.monotonic()
        app.rollout("abort", release=app.rollout()["release"], reason="bench")
        seconds = time.monotonic() - started
        wait_for(lambda: not app.sees(app.canary, self._commits[-1]), "the canary's port without the canary", 30)
        return None, seconds

    def promote(self) -> Durations:
        app = self._app
        started = time.monotonic()
        app.rollout("promote", release=app.rollout()["release"])
        wait_for_commit(app.production, self._commits[-1], host=app.host)
        return None, time.monotonic() - started

    def _deliver(self, environment: Environment) -> Durations:
        self._number += 1
        notes = self._app.repository.folder / "notes.py"
        notes.write_text(notes.read_text() + f"\nEDIT_{self._number} = True\n")
        self._commits.append(self._app.repository.commit(f"edit {self._number}"))
        delivery = self._app.deliver(environment)
        return delivery.push_s, delivery.release_s


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.deploy", description=__doc__)
    parser.add_argument("--releases", type=int, default=10, help="releases in a row, at least 2")
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    options = parser.parse_args()
    with own_stack() as stack, tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        app = Deployable(stack, APP, Path(folder))
        app.repository.copy_from(NOTES)
        app.repository.replace("slipway.yml", "app: notes", f"app: {APP}")
        bench = DeployBench(app)
        bench.release()
        actions: list[tuple[str, Callable[[], Durations]]] = [
            *((f"release {number}", bench.release) for number in range(1, max(options.releases, 2) + 1)),
            ("rollback", bench.rollback),
            ("canary", bench.canary),
            ("abort", bench.abort),
            ("canary to promote", bench.canary),
            ("promotion", bench.promote),
        ]
        print(f"{options.rate:g} requests/s on {app.public}\n\n{HEAD}", flush=True)
        with Load(app.public, rate=options.rate, host=app.host, limit_s=1800) as load:
            for name, action in actions:
                _row(name, action, load)
    summary = load.report()
    print("\nrollback and promotion: from the call until live; abort: until confirmed")
    print("\n".join(summary.lines()))
    held = not summary.lost and summary.largest_gap_ms < LONGEST_GAP_MS
    return 0 if compare(max(options.releases, 2), options.rate) and held else 1


def _row(name: str, action: Callable[[], Durations], load: Load) -> None:
    since = load.now()
    push_s, live_s = action()
    time.sleep(SETTLE_S)
    part = load.report(since)
    push = "-" if push_s is None else f"{push_s:.2f} s"
    figures = f"{push:>12}{live_s:>14.2f} s{part.sent:>10}{part.lost:>6}{part.largest_gap_ms:>10.0f} ms"
    print(f"{name:22}{figures}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RequestRefused, EngineError, TimeoutError, RuntimeError) as error:
        sys.exit(f"bench-deploy: {error}")
