"""Compares Slipway on containers with `docker service update` on a Swarm and `docker compose up -d`.

It measures how long after its image is ready a version has all visitors, and how many requests that costs. The second
part of `make bench-deploy`; alone: `python -m bench.containers`.
All run images of the same app, made by Slipway, under the same load: GET and POST, on kept and on new connections. The
images have a HEALTHCHECK as frequent as the probe of Slipway's deployer.
"""

import argparse
import contextlib
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.comparison import Platform, StartedUpdate, measure_updates
from bench.competitors import Competitor, Image, Images, compose, swarm_start_first, swarm_stop_first
from bench.switchover import HEAD, Switchover, line
from shared.host import docker_engine
from stack.clients.delivery import NOTES, Deployable, RequestRefused, indented
from stack.compose import engine
from stack.compose.engine import EngineError
from stack.local.local_stack import LocalStack
from stack.stack_fixture import own_container_stack

WITHIN_S = 200  # until the last update is begun; with the ends of all parts under 4 minutes
OUR_SHARE = 0.4  # of this time: our updates have a push and the image's build before them
UNCHANGED = 10
LIVE_WITHIN_S = 60
COMPETITORS: dict[str, Callable[[str, Images, Path], contextlib.AbstractContextManager[Competitor]]] = {
    "Swarm, start-first behind Envoy": swarm_start_first,
    "Swarm, mode=host, stop-first": swarm_stop_first,
    "compose up -d": compose,
}
NOTE = """
first, all: median from the image being ready (Slipway: the build's `sealed_at`; the others: the command) until an
outside client gets the first answer of the new version, and until it gets no other; ratio: of `all` to Slipway's.
lost: in all, and the median of an update; gap: the largest between two answers. Slipway builds its images meanwhile."""
CHECK = (
    "import os, socket, sys; s = socket.create_connection(('127.0.0.1', int(os.environ['PORT'])), 1); "
    r"s.sendall(b'GET /up HTTP/1.0\\r\\n\\r\\n'); sys.exit(b' 200 ' not in s.recv(64))"
)
# The last line is the version; Slipway tells the commit in its place.
DOCKERFILE = f"""FROM python:3.13-slim
ENV HOST=0.0.0.0 PORT=9090 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY app.py flags.py notes.py ./
HEALTHCHECK --interval=250ms --timeout=2s CMD ["python3", "-ISc", "{CHECK}"]
USER 10001:10001
CMD ["python3", "app.py"]
ENV SLIPWAY_COMMIT="""


class Slipway:
    """Updates by pushing a commit without steps: image, gates, release."""

    def __init__(self, stack: LocalStack, name: str, folder: Path) -> None:
        self._stack = stack
        self._app = app = Deployable(stack, name, folder)
        self.url, self.host = app.public, app.host
        self.images: list[Image] = []
        app.repository.copy_from(NOTES)
        (app.repository.folder / "slipway.yml").write_text(f"app: {app.app}\nrun: {{port: 9090, health: /up}}\n")

    def update(self) -> StartedUpdate:
        app, version = self._app, f"version-{len(self.images)}"
        (app.repository.folder / "Dockerfile").write_text(f"{DOCKERFILE}{version}\n")
        commit = app.repository.commit(version)
        pushed = app.repository.push("release").finish(LIVE_WITHIN_S)
        [build] = app.call("build", "GET", f"/apps/{app.app}/builds?limit=1")["items"]
        if build["commit"] != commit or build["state"] != "success":
            raise RequestRefused(f"{version} is not live\n{indented(pushed)}")
        artifact = build["artifact"]
        self.images.append(Image(artifact["ref"], artifact["digest"], version))
        age = datetime.now(UTC) - datetime.fromisoformat(build["sealed_at"])
        return StartedUpdate(commit, time.monotonic() - age.total_seconds())

    def unchanged_ms(self) -> list[float]:
        """Returns the milliseconds of each answer to releasing the live build again. Raises RequestRefused if one is
        not `unchanged`.
        """
        path, times = f"/apps/{self._app.app}/environments/production/releases", []
        with self._stack.api("deployer") as client:
            build = client.get(path).raise_for_status().json()["items"][0]["build"]
            for _ in range(UNCHANGED):
                started = time.monotonic()
                answer = client.post(path, json={"build": build})
                times.append((time.monotonic() - started) * 1000)
                if not answer.is_success or not answer.json()["unchanged"]:
                    raise RequestRefused(f"{build} is live, and was not `unchanged`: {answer.text}")
        return times


def compare(updates: int, rate: float) -> bool:
    """Prints the table, and returns whether Slipway lost no request. Call it from the main thread only."""
    if not engine.answers():
        print("\nin containers: skipped: no Docker Engine answers")
        return True
    print(f"\nin containers, {rate:g} requests/s, {updates} updates each\n\n{HEAD}", flush=True)
    deadline = time.monotonic() + WITHIN_S
    name = f"slipway-bench-{uuid.uuid4().hex[:6]}"

    def measure(platform: Platform, share: float) -> tuple[list[Switchover], list[str]]:
        return measure_updates(platform, updates, rate, (deadline - time.monotonic()) * share)

    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        ending.callback(engine.remove_images, f"{docker_engine.APP}={name}")
        with own_container_stack(name) as stack:
            slipway = Slipway(stack, name, folder / "app")
            slipway.update()
            ours, reasons = measure(slipway, OUR_SHARE)
            print(line("Slipway", ours, ours), flush=True)
            unchanged = slipway.unchanged_ms()
        images = slipway.images[-2], slipway.images[-1]
        for number, (row, competitor) in enumerate(COMPETITORS.items()):
            try:
                with competitor(f"{name}-{number}", images, folder) as platform:
                    theirs, _ = measure(platform, 1 / (len(COMPETITORS) - number))
                print(line(row, theirs, ours), flush=True)
            except (EngineError, TimeoutError) as error:
                print(f"{row:34}skipped: {str(error).splitlines()[0]}", flush=True)
    print(NOTE)
    times = f"median of {UNCHANGED} {median(unchanged):.0f} ms, at most {max(unchanged):.0f} ms"
    print(f"Slipway, the same build released again: `unchanged`, {times}")
    for reason in reasons:
        print(f"Slipway lost {reason}")
    return not reasons


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.containers", description=__doc__)
    parser.add_argument("--updates", type=int, default=10, help="of each, at least 1")
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    options = parser.parse_args()
    return 0 if compare(max(options.updates, 1), options.rate) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RequestRefused, EngineError, TimeoutError, RuntimeError) as error:
        sys.exit(f"bench-containers: {error}")
