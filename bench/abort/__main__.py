"""Measures for `make bench-abort` how long visitors come to a bad canary, and how long an abort takes, on a real stack.

Each kind of bad canary is released several times, some apps at a time, each with its own visitors. The time of a kind
is that from the first bad answer (for one that does not answer, from the request) until the last visitor of the canary
came. Last, good canaries are aborted by a call.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.abort.app_source import bad_app
from bench.abort.visitors import Visitors
from shared.models import Environment
from stack.clients.delivery import Deployable, RequestRefused
from stack.clients.probe_client import wait_for
from stack.compose.engine import EngineError
from stack.local.local_stack import LocalStack
from stack.stack_fixture import own_container_stack, own_stack

APP = "slipway-bench"
KINDS = {"only 500": "fail", "hangs": "hang", "cuts answers": "cut", "slow": "slow"}
SLOW_S = 0.1
ENDS_WITHIN_S = 180
ABORT_RATE = 200.0
AFTERWARDS_S = 1.0
GOAL_MS = 50
HEAD = f"{'':14}{'times':>7}{'median':>10}{'worst':>10}{'bad answers':>13}{'worst':>7}"


@dataclass(frozen=True)
class Bad:
    """Tells for how long visitors came to a bad canary, how many had a bad answer, and why it was aborted."""

    seconds: float
    answers: int
    reason: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.abort", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="of each kind")
    parser.add_argument("--at-once", type=int, default=4, help="apps; in containers it is one")
    parser.add_argument("--rate", type=float, default=30, help="visitors a second of each app")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"some of {', '.join(KINDS)}; may be empty")
    parser.add_argument("--aborts", type=int, default=20, help="calls")
    parser.add_argument("--docker", action="store_true", help="apps as containers")
    options = parser.parse_args()
    names = [APP] if options.docker else [f"{APP}-{number}" for number in range(options.at_once)]
    with (
        own_container_stack(APP) if options.docker else own_stack() as stack,
        tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder,
        ThreadPoolExecutor(len(names)) as pool,
    ):
        apps = list(pool.map(lambda name: _live(stack, name, Path(folder) / name), names))
        print(f"{options.rate:g} visitors a second of each of {len(apps)} apps\n\n{HEAD}", flush=True)
        for kind in filter(None, options.kinds.split(",")):
            turns = [apps[number % len(apps)] for number in range(options.times)]
            rounds = [turns[start : start + len(apps)] for start in range(0, len(turns), len(apps))]
            times = [each for turn in rounds for each in pool.map(_until_left(KINDS[kind], options.rate), turn)]
            print(_line(kind, times), flush=True)
        return _aborts(stack, apps[0], options.aborts) if options.aborts else 0


def _live(stack: LocalStack, name: str, folder: Path) -> Deployable:
    app = bad_app(stack, name, folder)
    app.repository.commit("good")
    app.deliver(Environment.PRODUCTION)
    return app


def _deliver(app: Deployable, mode: str) -> None:
    (app.repository.folder / "canary-mode").write_text(mode)
    app.repository.commit(mode or "good")
    app.deliver(Environment.CANARY)


def _until_left(mode: str, rate: float) -> Callable[[Deployable], Bad]:
    """Returns a function that releases such a canary, and measures for how long it had visitors."""

    def measured(app: Deployable) -> Bad:
        with Visitors(app.public, app.host, rate=rate, slow_s=SLOW_S if mode == "slow" else 60.0) as visitors:
            _deliver(app, mode)
            wait_for(lambda: app.rollout()["state"] == "aborted", f"the end of the canary of {app.app}", ENDS_WITHIN_S)
            time.sleep(AFTERWARDS_S)
        came = [visit for visit in visitors.visits if visit.by_canary]
        bad = [visit for visit in came if not visit.good]
        return Bad(max(visit.at for visit in came) - min(visit.at for visit in bad), len(bad), app.rollout()["reason"])

    return measured


def _line(kind: str, times: list[Bad]) -> str:
    seconds, answers = [each.seconds for each in times], [each.answers for each in times]
    figures = f"{median(seconds):>8.2f} s{max(seconds):>8.2f} s{median(answers):>13g}{max(answers):>7}"
    return f"{kind:14}{len(times):>7}{figures}  {times[-1].reason}"


def _aborts(stack: LocalStack, app: Deployable, count: int) -> int:
    """Prints how long calls took, and when the last visitor of the canary came. Returns 1 if that was too late."""
    calls, lasts = [], []
    for _ in range(count):
        _deliver(app, "")
        release = app.rollout()["release"]
        path, body = f"/apps/{app.app}/rollout", {"release": release, "reason": "bench"}
        with Visitors(app.public, app.host, rate=ABORT_RATE) as visitors, stack.api("proxy") as proxy:
            time.sleep(AFTERWARDS_S)
            proxy.get(path)  # the connection is open
            called = time.monotonic()
            proxy.post(f"{path}/abort", json=body).raise_for_status()
            calls.append((time.monotonic() - called) * 1000)
            time.sleep(AFTERWARDS_S)
        sent = [visit.sent for visit in visitors.visits if visit.by_canary]
        lasts.append(max(0.0, max(sent) - called) * 1000)
    print(f"\n{count} aborts at {ABORT_RATE:g} visitors a second, from the call on: median, worst")
    for name, row in (("until it is confirmed", calls), ("until the last visitor of the canary", lasts)):
        print(f"{name:40}{median(row):>8.1f} ms{max(row):>8.1f} ms", flush=True)
    return 1 if max(lasts) > GOAL_MS else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RequestRefused, EngineError, TimeoutError, RuntimeError) as error:
        sys.exit(f"bench-abort: {error}")
