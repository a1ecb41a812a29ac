"""Measures for `make bench-proxy` the throughput of Slipway's public port, a direct connection and a bare Envoy.

The same instance, deployed by a push, answers in all three cases; a second app with an open rollout shows what a canary
costs. The client is bench/throughput.py. Rounds take turns, and the median of each counts, since neighbours on the
machine disturb one round and not the next.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from bench.bare_envoy import bare_envoy
from bench.throughput import Throughput, measure_throughput
from shared.models import Environment
from stack.clients.delivery import Deployable, RequestRefused
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack
from stack.stack_fixture import borrowed_or_own_stack

APP = "slipway-bench"
MANIFEST = "app: {}\nrun: {{command: python server.py, health: /up}}\n"
ROLLOUT = "with a rollout"
SOURCE = Path(__file__).parent / "app"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.proxy", description=__doc__)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with borrowed_or_own_stack() as stack, tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        app, split = (_live(stack, name, Path(folder) / name) for name in (APP, f"{APP}-canary"))
        split.deliver(Environment.CANARY)
        wait_for(lambda: split.rollout()["state"] == "progressing", "the rollout", 20)
        registry = app.call("deployer", "GET", "/registry")
        upstream = registry["instances"][APP]["stable"][0]["address"]
        with bare_envoy(Path(folder), upstream) as bare:
            targets = {"direct": f"http://{upstream}", "bare Envoy": bare, "Slipway": app.public, ROLLOUT: split.public}
            measure = partial(measure_throughput, connections=options.connections, seconds=options.seconds)
            hosts = {ROLLOUT: split.host}
            rounds = [
                {name: measure(url, host=hosts.get(name, app.host)) for name, url in targets.items()}
                for _ in range(options.rounds)
            ]
        state = split.rollout()
    if state["state"] != "progressing":
        raise RuntimeError(f"the rollout did not stay open: {state['reason']}")
    print(
        f"{options.rounds} rounds of {options.seconds:g} s, {options.connections} kept-alive connections, GET / of a "
        "few bytes; own client (uvloop, httptools), which shares the machine's cores with what it measures\n"
    )
    print(f"{'':16}{'requests/s':>12}{'p50':>10}{'p99':>10}{'of direct':>11}{'of bare':>9}{'failed':>8}")
    rows = {name: [each[name] for each in rounds] for name in rounds[0]}
    for name, row in rows.items():
        rate = _median(row, lambda each: each.rate)
        shares = [rate / _median(rows[other], lambda each: each.rate) for other in ("direct", "bare Envoy")]
        p50, p99 = _median(row, lambda each: each.p50_ms), _median(row, lambda each: each.p99_ms)
        failed = sum(each.failed for each in row)
        print(f"{name:16}{rate:>12.0f}{p50:>7.2f} ms{p99:>7.2f} ms{shares[0]:>11.0%}{shares[1]:>9.0%}{failed:>8}")
    return 1 if any(each.failed for row in rows.values() for each in row) else 0


def _live(stack: LocalStack, name: str, folder: Path) -> Deployable:
    app = Deployable(stack, name, folder)
    app.repository.copy_from(SOURCE)
    (folder / "slipway.yml").write_text(MANIFEST.format(name))
    app.repository.commit("bench")
    app.deliver(Environment.PRODUCTION)
    return app


def _median(row: list[Throughput], figure: Callable[[Throughput], float]) -> float:
    return median(figure(each) for each in row)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RequestRefused, OSError, RuntimeError) as error:
        sys.exit(f"bench-proxy: {error}")
