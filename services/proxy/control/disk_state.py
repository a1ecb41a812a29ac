"""Stores routes and aborted releases on disk in `<home>/envoy`, so that the service can start without Redis."""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from services.proxy.control.spare_space import SpareSpace
from services.proxy.envoy.files import replace, sync, write
from services.proxy.routes.rollout import KEPT
from services.proxy.routes.route import Route

log = logging.getLogger(__name__)

Routes = dict[str, Route]
_ROUTES = TypeAdapter(Routes)


class Snapshot:
    """Stores each route in the file `routes/<app>.json`. A change is written here before it is stored in Redis. Earlier
    versions of Slipway stored all routes in `state.json`. `spare` reserves disk space for when the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self.spare = SpareSpace(folder)
        self._folder = folder / "routes"
        self._earlier = folder / "state.json"
        self._written: Routes | None = None
        """The routes in the folder; None if it does not hold the routes yet."""

    def read(self) -> Routes | None:
        """Returns app → route. Returns None if the files are missing or unreadable; the caller then reads the routes
        from Redis.
        """
        try:
            if not self._folder.exists():
                return _ROUTES.validate_json(self._earlier.read_bytes())
            texts = [path.read_bytes() for path in sorted(self._folder.glob("*.json"))]
            routes = {route.app: route for route in map(Route.model_validate_json, texts)}
        except FileNotFoundError:
            return None
        except ValidationError:
            log.exception("the routes in %s cannot be read; they are taken from Redis", self._folder.parent)
            return None
        self._written = dict(routes)
        return routes

    def write(self, routes: Collection[Route]) -> None:
        """Writes the routes that differ from those on disk; when this returns, they are on disk. The first call must
        get all routes: it creates the whole folder at once, so that after a crash the folder either holds all routes or
        is missing.
        """
        if self._written is None:
            self._written = self._begin(routes)
        for route in routes:
            if self._written.get(route.app) is not route:
                replace(self._folder / _file(route), _text(route))
                self._written[route.app] = route

    def remove(self, app: str) -> None:
        """Removes the app's route, if there is one; when this returns, it is gone from the disk."""
        if self._written is not None:
            self._written.pop(app, None)
            (self._folder / f"{app}.json").unlink(missing_ok=True)
            sync(self._folder)

    def _begin(self, routes: Collection[Route]) -> Routes:
        fresh = self._folder.with_name(".routes")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for route in routes:
            write(fresh / _file(route), _text(route))
        sync(fresh)
        shutil.rmtree(self._folder, ignore_errors=True)
        fresh.rename(self._folder)
        sync(self._folder.parent)
        self._earlier.unlink(missing_ok=True)
        return {route.app: route for route in routes}


class AbortedReleases:
    """Reads and writes the file `aborted`, with a line `<release> <reason>` for each aborted release. The newest 20 of
    each app are kept. An older one cannot get visitors again, because the deployer had ended it before it made the
    canaries that followed.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "aborted"

    def read(self) -> dict[str, str]:
        """Returns release → reason. Removes all but the newest 20 releases of each app from the file. Ignores a last
        line without a newline: a crash cut it off before the abort was confirmed.
        """
        if not self._path.exists():
            return {}
        lines = [line for line in self._path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        newer: Counter[str] = Counter()
        kept = []
        for line in reversed(lines):
            app = app_of(line.partition(" ")[0])
            newer[app] += 1
            if newer[app] <= KEPT:
                kept.append(line)
        if len(kept) < len(lines):
            replace(self._path, "".join(reversed(kept)))
        pairs = (line.rstrip("\n").partition(" ") for line in reversed(kept))
        return {release: reason for release, _, reason in pairs}

    def append(self, release: str, reason: str) -> None:
        """Appends the release with its reason to the file; when this returns, the line is on disk."""
        line = f"{release} {' '.join(reason.split())}\n"
        with self._path.open("ab+") as file:
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def forget(self, app: str) -> None:
        """Removes the releases of the app from the file `aborted`."""
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        kept = [line for line in lines if app_of(line.partition(" ")[0]) != app]
        if len(kept) < len(lines):
            replace(self._path, "".join(kept))


def app_of(release: str) -> str:
    """Returns the app to which the release with this id belongs."""
    return release.rpartition("-r")[0]


def _file(route: Route) -> str:
    return f"{route.app}.json"


def _text(route: Route) -> str:
    return route.model_dump_json(indent=1) + "\n"
