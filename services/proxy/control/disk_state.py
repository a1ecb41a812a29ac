"""Keeps routes and aborted releases on disk in `<home>/envoy`, for a start without Redis."""

import logging
import os
from collections import Counter
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from services.proxy.envoy.files import replace
from services.proxy.routes.rollout import KEPT
from services.proxy.routes.route import Route

log = logging.getLogger(__name__)

Routes = dict[str, Route]
_ROUTES = TypeAdapter(Routes)


class Snapshot:
    """Reads and writes all routes in `state.json`. Each change is written here before it is stored in Redis."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.json"

    def read(self) -> Routes | None:
        """Returns the routes by app; None if the file is missing or unreadable (use the copy in Redis then)."""
        try:
            return _ROUTES.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            log.exception("%s cannot be read; the routes are taken from Redis", self._path)
            return None

    def write(self, routes: Routes) -> None:
        replace(self._path, _ROUTES.dump_json(routes, indent=1).decode() + "\n")


class AbortedReleases:
    """Reads and writes the file `aborted`, with a line `<release> <reason>` for each aborted release. The newest 20 of
    an app are kept: the deployer ended an older one before it made the canaries that followed.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "aborted"

    def read(self) -> dict[str, str]:
        """Returns release → reason, and removes all but the newest 20 of each app from the file. Ignores a last line
        that a crash cut before its newline: it was never confirmed.
        """
        if not self._path.exists():
            return {}
        lines = [line for line in self._path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        newer: Counter[str] = Counter()
        kept = []
        for line in reversed(lines):
            app = line.partition(" ")[0].rpartition("-r")[0]
            newer[app] += 1
            if newer[app] <= KEPT:
                kept.append(line)
        if len(kept) < len(lines):
            replace(self._path, "".join(reversed(kept)))
        pairs = (line.rstrip("\n").partition(" ") for line in reversed(kept))
        return {release: reason for release, _, reason in pairs}

    def append(self, release: str, reason: str) -> None:
        """Appends the release; the line is on disk when this returns."""
        line = f"{release} {' '.join(reason.split())}\n"
        with self._path.open("ab+") as file:
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
