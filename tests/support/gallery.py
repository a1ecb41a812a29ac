"""The apps of examples/gallery, and what must become of each where apps are processes or containers.

With `E2E_GALLERY=all`, as in `make soak`, every app is pushed to both. Without it, an app is left out where another app
of the gallery goes the same way (`soak_on`).
"""

import os
import re
import subprocess
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from stack.clients.delivery import Deployable, RequestRefused
from stack.clients.probe_client import probe
from stack.local.local_stack import LocalStack
from stack.local.programs import ROOT

FOLDER = ROOT / "examples" / "gallery"
AT_A_TIME = 3
WAITS = {"slow-start", "wrong-port", "loopback-only", "endless"}  # mostly for time to pass, in which others are built
SILENT_AT_MOST_S = 20.0  # the platform says something every 15 s; the rest is a busy machine's
Place = Literal["process", "docker"]
ALL = os.environ.get("E2E_GALLERY") == "all"


@dataclass(frozen=True)
class Live:
    """The app goes live, and `/` answers with `status` and a body that begins with `body`."""

    body: str = ""
    status: int = 200
    says: str = ""
    """Expression that the push's output must contain."""


@dataclass(frozen=True)
class Ends:
    """The push ends without a live release, and its last line of the platform, the build's end, matches `remedy`."""

    remedy: str
    within_s: float = 120.0  # where the CPU is short, a release is given four times its `ready_within`
    says: str = ""
    """Expression that the push's output must contain."""


@dataclass(frozen=True)
class GalleryApp:
    """`on` has what must become of the app, by the stack's driver. `settings` are put on the app before its push. Where
    `soak_on` names the driver, only `make soak` pushes the app.
    """

    name: str
    on: Mapping[Place, Live | Ends]
    settings: Mapping[str, object] = field(default_factory=dict)
    soak_on: Collection[Place] = ()


@dataclass(frozen=True)
class TimedPush:
    """The output of a push, each line with the seconds since its start."""

    lines: list[tuple[float, str]]
    took_s: float

    @property
    def output(self) -> str:
        return "\n".join(f"{at:6.1f} {line}" for at, line in self.lines)

    @property
    def silent_s(self) -> float:
        """The longest time without a line."""
        times = [0.0, *(at for at, _ in self.lines), self.took_s]
        return max(after - before for before, after in pairwise(times))


def both(fate: Live | Ends) -> dict[Place, Live | Ends]:
    return {"process": fate, "docker": fate}


def image(body: str) -> dict[Place, Live | Ends]:
    """Returns the fates of an app that is a Dockerfile alone."""
    return {"process": Ends(r"a Dockerfile is used only where apps are containers", 60), "docker": Live(body)}


PAGE = Live("<!doctype html>")
BOTH: Collection[Place] = ("process", "docker")
GALLERY = [
    GalleryApp("nginx", both(PAGE), soak_on=["process"]),
    GalleryApp("apache", both(PAGE), soak_on=BOTH),
    GalleryApp("lighttpd", both(PAGE), soak_on=BOTH),
    GalleryApp("caddy", both(PAGE)),
    GalleryApp("haproxy", image("hello from haproxy"), soak_on=["docker"]),
    GalleryApp("go", image("hello from go"), soak_on=BOTH),
    GalleryApp(
        "nginx-procfile",
        {
            "process": Live("hello from nginx"),
            "docker": Ends(r"exit code 127; it ran `sh start\.sh`", says="nginx: not found"),
        },
    ),
    GalleryApp("strict-host", both(Live("hello from strict-host"))),
    GalleryApp("django", both(Live("hello from django", says="collectstatic")), soak_on=["docker"]),
    GalleryApp("flask", both(Live("hello from flask", says="gunicorn")), soak_on=["process"]),
    GalleryApp("fastapi", both(Live('"hello from fastapi"', says="uvicorn main:app")), soak_on=BOTH),
    GalleryApp("alembic", both(Live('"hello from alembic at ae1027a6acfd"')), soak_on=["docker"]),
    GalleryApp("express-pnpm", both(Live("hello from express", says="pnpm")), soak_on=["process"]),
    GalleryApp("vite", both(Live("<!doctype html>", says="vite build|npm run build")), soak_on=["docker"]),
    GalleryApp("plain-html", both(PAGE)),
    GalleryApp("procfile", both(Live("hello from procfile", says=r"worker")), soak_on=["docker"]),
    GalleryApp("monorepo", both(Live("hello from monorepo")), {"root": "services/web"}),
    GalleryApp("slow-start", both(Live("hello from slow-start")), soak_on=["docker"]),
    GalleryApp("wrong-port", both(Ends(r"it listens on \S*:5005: let the app listen on \S*\$PORT"))),
    GalleryApp(
        "loopback-only",
        {
            "process": Live("hello from loopback-only"),
            "docker": Ends(r"it listens on 127\.0\.0\.1:\d+: let the app listen on 0\.0\.0\.0"),
        },
    ),
    GalleryApp("crash", both(Ends(r"exit code 1; it ran `python app\.py`", 60, says="KeyError: 'DATABASE_URL'"))),
    GalleryApp("exit-zero", both(Ends(r"exit code 0", 60)), soak_on=["docker"]),
    GalleryApp("endless", both(Ends(r"GET /up .* does not end .* run\.health")), soak_on=["docker"]),
    GalleryApp("https-only", both(Live(status=301))),
    GalleryApp("login-first", both(Live("who are you?", 401)), soak_on=["docker"]),
    GalleryApp("no-root", both(Live("nothing here", 404)), soak_on=["docker"]),
]


def chosen(place: Place) -> list[GalleryApp]:
    """Returns the apps to push where the stack's driver is `place`."""
    return [app for app in GALLERY if ALL or place not in app.soak_on]


class GalleryRun:
    """Pushes apps of the gallery to a stack and holds what came of it: those that take CPU time three at a time, beside
    those that wait.
    """

    def __init__(self, stack: LocalStack, place: Place, folder: Path) -> None:
        self._stack = stack
        self._place = place
        self._folder = folder
        self.pushes: dict[str, TimedPush] = {}
        self._apps: dict[str, Deployable] = {}

    def push_all(self, apps: Iterable[GalleryApp]) -> None:
        with ThreadPoolExecutor(len(WAITS)) as waiting, ThreadPoolExecutor(AT_A_TIME) as working:
            pushes = {app.name: (waiting if app.name in WAITS else working).submit(self._push, app) for app in apps}
            self.pushes = {name: pushed.result() for name, pushed in pushes.items()}

    def check(self, app: GalleryApp) -> None:
        """Asserts that what must become of the app did."""
        pushed, fate = self.pushes[app.name], app.on[self._place]
        deployed = self._apps[app.name]
        if isinstance(fate, Live):
            answer = probe(deployed.production, "/", deployed.host)
            assert (answer.status, answer.body[: len(fate.body)]) == (fate.status, fate.body), pushed.output
            assert re.search(fate.says, pushed.output), pushed.output
            return
        verdict = next((line for _, line in reversed(pushed.lines) if f"{app.name}-1 failure: " in line), "")
        assert re.search(fate.remedy, verdict), pushed.output
        assert re.search(fate.says, pushed.output), pushed.output
        assert pushed.took_s < fate.within_s, pushed.output
        assert pushed.silent_s < SILENT_AT_MOST_S, pushed.output
        assert not self._is_live(deployed), f"it is live though its push failed\n{pushed.output}"

    def _is_live(self, app: Deployable) -> bool:
        try:
            release = app.call("deployer", "GET", f"/apps/{app.app}/environments/production")["release"]
        except RequestRefused:  # it has no environment: nothing was released
            return False
        return release is not None and release["state"] == "live"

    def _push(self, app: GalleryApp) -> TimedPush:
        deployable = Deployable(self._stack, app.name, self._folder / app.name)
        self._apps[app.name] = deployable
        deployable.repository.copy_from(FOLDER / app.name)
        deployable.repository.commit("as it is in the gallery")
        if app.settings:
            deployable.call("build", "POST", "/apps", {"name": app.name})
            deployable.call("build", "PUT", f"/apps/{app.name}", dict(app.settings))
        return timed(deployable)


def timed(app: Deployable, limit_s: float = 420.0) -> TimedPush:
    """Pushes HEAD to production and notes when each line came."""
    started, lines = time.monotonic(), []
    with app.repository.open_push("release", stdout=subprocess.PIPE) as process:
        killer = threading.Timer(limit_s, process.kill)
        killer.start()
        try:
            for line in process.stdout or ():
                text = line.decode(errors="replace").rstrip()
                lines.append((time.monotonic() - started, text.removeprefix("remote: ").rstrip()))
        finally:
            killer.cancel()
    return TimedPush(lines, time.monotonic() - started)
