"""Writes Envoy's files in `<home>/envoy` atomically: each new file is moved onto the old one."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from services.proxy.envoy.bootstrap import CDS_FILE, bootstrap
from services.proxy.envoy.clusters import Json, clusters, eds_file, endpoints
from services.proxy.envoy.routes import LISTENERS, rds_file, route_configuration
from services.proxy.routes.route import Route
from shared.config import SharedSettings
from shared.models import Track

SUN_PATH = 103  # bytes of a unix socket's path: 107 on Linux, 103 on macOS


def envoy_folder(settings: SharedSettings) -> Path:
    return settings.home / "envoy"


def admin_socket(settings: SharedSettings) -> Path:
    """Returns the path of Envoy's admin socket. Raises ValueError if it is too long for a unix socket."""
    path = envoy_folder(settings) / "admin.sock"
    if len(os.fsencode(path)) > SUN_PATH:
        raise ValueError(f"{path} is too long for a unix socket ({SUN_PATH} bytes): choose a shorter SLIPWAY_HOME")
    return path


def prepare(settings: SharedSettings) -> Path:
    """Creates the files that Envoy needs to start (existing routes, clusters and endpoints are kept), and returns the
    bootstrap's path for `envoy -c … --disable-hot-restart`. Idempotent; two processes may call it at once.
    """
    folder = envoy_folder(settings)
    (folder / "eds").mkdir(parents=True, exist_ok=True)
    for name, document in configuration([], folder).items():
        if not (folder / name).exists():
            replace(folder / name, _text(document))
    path = folder / "bootstrap.json"
    text = _text(bootstrap(settings, folder, admin_socket(settings)))
    if not path.exists() or path.read_text() != text:
        replace(path, text)
    return path


def configuration(routes: Iterable[Route], folder: Path) -> dict[str, Json]:
    """Returns Envoy's discovery responses: file name → document. A file stands before the files that refer to it, in
    the order of writing. The version in a document is a hash of its content.
    """
    routes = sorted(routes, key=lambda route: route.app)
    files = {eds_file(route.app, track): endpoints(route, track) for route in routes for track in Track}
    files[CDS_FILE] = [cluster for route in routes for cluster in clusters(route, folder)]
    files |= {rds_file(listener): route_configuration(listener, routes) for listener in LISTENERS}
    return {name: {"version_info": _version(resources), "resources": resources} for name, resources in files.items()}


def _version(resources: list[Json]) -> str:
    return hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()[:12]


class EnvoyFiles:
    """Writes Envoy's files. `versions` holds file name → version on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.versions = {
            str(path.relative_to(folder)): json.loads(path.read_text())["version_info"]
            for pattern in (CDS_FILE, rds_file("*"), "eds/*.json")
            for path in folder.glob(pattern)
        }

    def write(self, routes: Iterable[Route]) -> list[str]:
        """Writes the changed files and returns their names."""
        written = []
        for name, document in configuration(routes, self._folder).items():
            if self.versions.get(name) != document["version_info"]:
                replace(self._folder / name, _text(document))
                self.versions[name] = document["version_info"]
                written.append(name)
        return written

    def move_again(self, name: str) -> None:
        """Replaces the file by one with the same content, so that Envoy reads it again if it missed the last move."""
        replace(self._folder / name, (self._folder / name).read_text())


def replace(path: Path, text: str) -> None:
    """Replaces the file's content by `text` atomically; it is on disk when this returns."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _text(document: Json) -> str:
    return json.dumps(document, indent=1) + "\n"
