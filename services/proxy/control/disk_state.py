"""Keeps routes and aborted releases on disk in `<home>/envoy`, for a start without Redis."""

import logging
import os
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from services.proxy.envoy.files import replace
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
    """Reads and writes the file `aborted`, with a line `<release> <reason>` for each aborted release."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "aborted"

    def read(self) -> dict[str, str]:
        """Returns release → reason. Ignores a last line that a crash cut before its newline: it was never confirmed."""
        if not self._path.exists():
            return {}
        lines = self._path.read_text().splitlines(keepends=True)
        pairs = (line.rstrip("\n").partition(" ") for line in lines if line.endswith("\n"))
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
