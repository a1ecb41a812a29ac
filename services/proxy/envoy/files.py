"""Writes Envoy's files in `<home>/envoy` atomically: each new file is moved onto the old one."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from services.proxy.envoy.access_log import REQUEST_LOG, create_access_log, create_log
from services.proxy.envoy.bootstrap import bootstrap
from services.proxy.envoy.clusters import eds_file
from services.proxy.envoy.configuration import SHARED_FILES, Configuration, in_writing_order
from services.proxy.envoy.limits import read_file_limit
from services.proxy.routes.certificate import Certificate
from services.proxy.routes.route import Route
from services.proxy.visitors.visitor_limits import BUSY, PRESSURE_FILE
from shared.config import SharedSettings
from shared.models import Track
from shared.security.vault import Vault, VaultError

log = logging.getLogger(__name__)

ENDPOINTS = "eds/"
CERTIFICATES = "certificates"
UNFINISHED = ".*.[0-9]*"  # how `move_into_place` names a file until it is complete: with its process id
SUN_PATH = 103  # longest path of a unix socket in bytes: 107 on Linux, 103 on macOS


def envoy_folder(settings: SharedSettings) -> Path:
    return settings.home / "envoy"


def admin_socket(settings: SharedSettings) -> Path:
    """Returns the path of Envoy's admin socket. Raises ValueError if it is too long for a unix socket."""
    path = envoy_folder(settings) / "admin.sock"
    if len(os.fsencode(path)) > SUN_PATH:
        raise ValueError(f"{path} is too long for a unix socket ({SUN_PATH} bytes): choose a shorter SLIPWAY_HOME")
    return path


def prepare(settings: SharedSettings) -> Path:
    """Creates the files that Envoy needs to start, and keeps existing routes, clusters and endpoints. Only their owner
    may enter the folder. Returns the path of the bootstrap for `envoy -c … --disable-hot-restart`. Idempotent; two
    processes may call it at the same time.
    """
    folder = envoy_folder(settings)
    for each in (ENDPOINTS, CERTIFICATES):
        (folder / each).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    create_access_log(folder)
    if settings.request_log_mb:
        create_log(folder / REQUEST_LOG)
    for name in SHARED_FILES:
        if not (folder / name).exists():
            replace(folder / name, Configuration().document(name)[1])
    if not (folder / PRESSURE_FILE).exists():
        replace(folder / PRESSURE_FILE, "0")
    path = folder / "bootstrap.json"
    document = bootstrap(settings, folder, admin_socket(settings), read_file_limit().visitors)
    text = json.dumps(document, indent=1) + "\n"
    if not path.exists() or path.read_text() != text:
        replace(path, text)
    return path


class EnvoyFiles:
    """Writes Envoy's files. `versions` holds file name → version on disk. The constructor, which runs at the start of
    the service, removes unfinished files of processes that were killed.
    """

    def __init__(self, folder: Path, https_port: int = 0) -> None:
        for unfinished in folder.rglob(UNFINISHED):
            unfinished.unlink(missing_ok=True)
        self._folder = folder
        self._configuration = Configuration(https_port)
        self._certificates = CertificateWriter(folder / CERTIFICATES)
        self._unwritten: set[str] = set()
        self.versions = {
            str(path.relative_to(folder)): json.loads(path.read_text())["version_info"]
            for pattern in (*SHARED_FILES, "eds/*.json")
            for path in folder.glob(pattern)
        }

    def write(self, routes: Iterable[Route], *, only_endpoints: bool = False) -> list[str]:
        """Renders the given routes, which have changed, writes the files that differ because of that, and returns their
        names. With `only_endpoints`, writes only the files of endpoints. Files that are not written in this call, also
        because of an OSError, are written by the next one.
        """
        routes = list(routes)
        self._unwritten |= {name for route in routes for name in self._configuration.put(route)}
        if not only_endpoints:
            self._certificates.write(routes)
        written = []
        for name in in_writing_order(self._unwritten):
            if only_endpoints and not name.startswith(ENDPOINTS):
                continue
            version, text = self._configuration.document(name)
            if self.versions.get(name) != version:
                move_into_place(self._folder / name, text)
                self.versions[name] = version
                written.append(name)
            self._unwritten.remove(name)
        for folder in {(self._folder / name).parent for name in written}:
            sync(folder)
        return written

    def remove(self, app: str) -> None:
        """Removes the app from the files that all apps share (routes, clusters), beginning with those that refer to its
        clusters; then removes the files of its endpoints. An interrupted call can be repeated.
        """
        self._configuration.remove(app)
        own = [eds_file(app, track) for track in Track]
        self._unwritten.difference_update(own)
        for name in reversed(SHARED_FILES):
            version, text = self._configuration.document(name)
            if self.versions.get(name) != version:
                move_into_place(self._folder / name, text)
                self.versions[name] = version
            self._unwritten.discard(name)
        self._certificates.remove(app)
        for name in own:
            (self._folder / name).unlink(missing_ok=True)
            self.versions.pop(name, None)
        sync(self._folder)
        sync(self._folder / ENDPOINTS)

    def move_again(self, name: str) -> None:
        """Replaces the file by one with the same content, so that Envoy reads it again, in case Envoy missed the last
        move.
        """
        replace(self._folder / name, (self._folder / name).read_text())


class CertificateWriter:
    """Writes the certificates of hosts, with their keys, to files in `folder` that only their owner may read. The
    keeper reads them and sends them to Envoy. The version of a file is a hash of the chain, since a person may set a
    certificate once more with the missing ones of its authorities.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hosts: dict[str, dict[str, Certificate]] | None = None
        """App → file name → certificate; None until the first call of `write`."""
        self._versions = {path.name: _version(path) for path in folder.glob("*.json")}

    def write(self, routes: Sequence[Route]) -> None:
        """Writes the certificates of the routes' hosts that differ, and removes those of hosts that an app has no more.
        The first call must get all routes; it also removes what no app has.
        """
        wanted = {route.app: _by_file(route) for route in routes}
        had = set(self._versions)
        if self._hosts is not None:
            had = {name for app in wanted for name in self._hosts.get(app, {})}
        self._hosts = {**(self._hosts or {}), **wanted}
        self._remove(had - {name for certificates in wanted.values() for name in certificates})
        for certificates in wanted.values():
            for name, certificate in certificates.items():
                if self._versions.get(name) != _chain_version(certificate):
                    self._write(name, certificate)

    def remove(self, app: str) -> None:
        """Removes the certificates of the app's hosts."""
        self._remove((self._hosts or {}).pop(app, {}))

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
            self._versions.pop(name, None)

    def _write(self, name: str, certificate: Certificate) -> None:
        try:
            key = certificate_vault(self._folder.parent).open(certificate.sealed_key)
        except VaultError as error:
            log.error("the certificate in %s stays as it is, since the new one's key cannot be read: %s", name, error)
            return
        secret = {"certificate_chain": {"inline_string": certificate.chain}, "private_key": {"inline_string": key}}
        document = {"version_info": _chain_version(certificate), "resources": [{"tls_certificate": secret}]}
        replace(self._folder / name, json.dumps(document) + "\n")
        self._versions[name] = _chain_version(certificate)


def certificate_vault(folder: Path) -> Vault:
    """Returns what encrypts the keys of certificates; `folder` is `<home>/envoy`."""
    return Vault(folder / "key", "proxy:certificate")


def _by_file(route: Route) -> dict[str, Certificate]:
    """Returns file name → certificate, for the hosts of the app that have one."""
    return {f"{host.replace('*', '_')}.json": route.certificates[host] for host in route.secured()}


def _chain_version(certificate: Certificate) -> str:
    return hashlib.sha256(certificate.chain.encode()).hexdigest()


def _version(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["version_info"])
    except (ValueError, KeyError, TypeError):
        return ""  # it is written again


class PressureFile:
    """Tells Envoy by a file which share of the connections that visitors may have (`visitors`) is taken, so that Envoy
    closes idle connections sooner when many are taken. Below one half, the file always contains 0 and is not written
    again.
    """

    def __init__(self, folder: Path, visitors: int) -> None:
        self._path = folder / PRESSURE_FILE
        self._visitors = visitors
        self._told = self._path.read_text()

    def tell(self, connections: int) -> None:
        share = min(1.0, connections / self._visitors)
        text = f"{share:.2f}" if share >= BUSY else "0"
        if text != self._told:
            with contextlib.suppress(OSError):  # a full disk must not stop the reading of traffic
                move_into_place(self._path, text)
                self._told = text


def replace(path: Path, text: str) -> None:
    """Replaces the file's content by `text` atomically; when this returns, the new content is on disk."""
    move_into_place(path, text)
    sync(path.parent)


def move_into_place(path: Path, text: str) -> None:
    """Replaces the file's content by `text` atomically. Without a `sync` of the folder afterwards, a loss of power may
    undo it. Leaves no half-written file behind. Raises OSError.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(fresh, text)
        os.replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def write(path: Path, text: str) -> None:
    """Writes the content of the file to disk; only its owner may read a new file, since a rollout's secret may be in
    it. The name of a new file is on disk only after `sync` of the folder.
    """
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Waits until the names of the files in the folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
