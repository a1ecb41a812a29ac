"""Runs the benchmark: `python -m bench.overload`."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

import bench.overload
from shared.models import Environment
from stack.clients.delivery import Deployable, RequestRefused
from stack.local.local_stack import LocalStack
from stack.stack_fixture import own_stack

APP = Path(__file__).parents[1] / "app"
RELEASED = 3  # apps with two builds, that are rolled back under load
WATCHED_S = 12.0  # after it went live, until a failure is no fault of the release
FROZEN_WITHIN_S = 60.0
AFTERWARDS_S = 20.0
POLL_S = 1.0


@dataclass
class Seen:
    """Holds what was seen of the instances and of the deployer while the machine was busy."""

    ill: set[str] = field(default_factory=set)
    """Ids of the instances that were unhealthy or failed at some time."""
    late: int = 0
    """Number of times that the deployer did not answer within 10 s."""

    def look(self, stack: LocalStack) -> dict[str, str]:
        """Returns the state of each instance in the registry, by its id; empty if the deployer does not answer."""
        try:
            with stack.api("deployer") as deployer:
                apps = deployer.get("/registry").raise_for_status().json()["instances"]
        except httpx.HTTPError:
            self.late += 1
            return {}
        states = {each["id"]: str(each["state"]) for app in apps.values() for track in app.values() for each in track}
        self.ill |= {name for name, state in states.items() if state in ("unhealthy", "failed")}
        return states


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=bench.overload.__doc__)
    parser.add_argument("--apps", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--burners", type=int, default=40, help="programs that compute")
    parser.add_argument("--nice", type=int, default=0, help="their niceness")
    options = parser.parse_args()
    with own_stack() as stack, tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        apps = [_delivered(stack, f"idle{number}", Path(folder)) for number in range(1, options.apps + 1)]
        rolled_back = apps[:RELEASED]
        for app in rolled_back:
            _deliver(app, "again")
        time.sleep(WATCHED_S)
        seen = Seen()
        before = seen.look(stack)
        print(f"{len(before)} instances of {len(apps)} apps; {options.burners} programs compute", flush=True)
        with _burners(options.burners, options.nice, options.minutes * 60 + 300):
            begun = time.monotonic()
            for app in rolled_back:
                app.call("deployer", "POST", f"/apps/{app.app}/environments/production/rollback", {})
            while time.monotonic() - begun < options.minutes * 60:
                seen.look(stack)
                time.sleep(POLL_S)
            load, cpu = os.getloadavg()[0], psutil.cpu_percent(5)
            after = seen.look(stack)
            frozen_s = _frozen_s(stack, apps[-1])
        time.sleep(AFTERWARDS_S)
        releases = {app.app: app.latest_release(Environment.PRODUCTION) for app in apps}
        figures = _probe_figures(stack)
    own = {f"{app.app}-" for app in rolled_back}
    replaced = [name for name in before if name not in after and not any(map(name.startswith, own))]
    failed = [release["id"] for release in releases.values() if release["state"] != "live"]
    ill = sorted(seen.ill)
    print(f"load {load:.0f}, CPU {cpu:.0f} %; the deployer was silent for 10 s {seen.late} times")
    print(f"instances replaced: {len(replaced)}; called unhealthy or failed: {len(ill)} {ill}")
    print(f"releases that are not live: {len(failed)} {failed}")
    print("a frozen app was called unhealthy after " + (f"{frozen_s:.1f} s" if frozen_s else "-"))
    print(figures)
    return 0 if not replaced and not ill and not failed and frozen_s else 1


def _delivered(stack: LocalStack, name: str, folder: Path) -> Deployable:
    app = Deployable(stack, name, folder / name)
    app.repository.copy_from(APP)
    app.repository.replace("slipway.yml", "app: slipway-bench", f"app: {name}")
    _deliver(app, "first")
    return app


def _deliver(app: Deployable, message: str) -> None:
    (app.repository.folder / "VERSION").write_text(message)
    app.repository.commit(message)
    app.deliver(Environment.PRODUCTION)
    print(f"\r{app.app} ", end="", flush=True)


@contextlib.contextmanager
def _burners(count: int, nice: int, limit_s: float) -> Iterator[None]:
    """Runs `count` programs that compute, until the block ends; each ends by itself after `limit_s` seconds."""
    command = ["timeout", f"{limit_s:.0f}", "nice", "-n", str(nice), "sh", "-c", "while :; do :; done"]
    running: Sequence[subprocess.Popen[bytes]] = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for each in running:
            each.terminate()  # timeout passes it on
        for each in running:
            each.wait()


def _frozen_s(stack: LocalStack, app: Deployable) -> float | None:
    """Freezes the app's instance; returns the seconds until it is called unhealthy, or None."""
    release = app.latest_release(Environment.PRODUCTION)["id"]
    seen = Seen()
    name = next(each for each in seen.look(stack) if each.startswith(f"{release}-"))
    leader = json.loads((stack.settings.home / "instances" / name / "record.json").read_text())["pid"]
    begun = time.monotonic()
    os.killpg(leader, signal.SIGSTOP)
    try:
        while time.monotonic() - begun < FROZEN_WITHIN_S:
            if seen.look(stack).get(name) == "unhealthy":
                return time.monotonic() - begun
            time.sleep(0.1)
        return None
    finally:
        os.killpg(leader, signal.SIGCONT)


def _probe_figures(stack: LocalStack) -> str:
    with stack.api("deployer") as deployer:
        lines = deployer.get("/metrics").text.splitlines()
    return "\n".join(line for line in lines if line.startswith("slipway_probe") and "_created" not in line)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RequestRefused, TimeoutError, RuntimeError) as error:
        sys.exit(f"bench-overload: {error}")
