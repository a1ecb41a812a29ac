"""Base images that are pulled again, from a small registry on loopback that is real enough for the engine."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.build.executors.docker.base_images import PullRule
from services.build.executors.docker.image_builder import ImageBuilder, client_environment
from services.build.executors.executor import Executor, SealRequest, Workspace
from services.build.system.stop import Stop
from tests.support.build.executors import Engine, Printed, found_engine, workspace_in

pytestmark = [pytest.mark.anyio, pytest.mark.docker]
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Holds one image, `base:1`, with one file; `asked` counts how often its manifest was asked for."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifest = b""
        self.asked = 0

    def put(self, content: str) -> None:
        """Makes `base:1` an image with the file `/version`."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            member = tarfile.TarInfo("version")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
        layer = gzip.compress(packed.getvalue(), mtime=0)
        root = {"type": "layers", "diff_ids": [digest_of(packed.getvalue())]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}).encode()
        self.blobs = {digest_of(each): each for each in (layer, config)}
        kinds = "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"
        config_part, layer_part = (
            {"mediaType": kind, "size": len(each), "digest": digest_of(each)}
            for kind, each in zip(kinds, (config, layer), strict=True)
        )
        body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config_part, "layers": [layer_part]}
        self.manifest = json.dumps(body).encode()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def served(registry: Registry, port: int = 0) -> Iterator[int]:
    """Yields the port on 127.0.0.1, where engines need no TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = "application/octet-stream", registry.blobs.get(self.path.rpartition("/")[2])
            if "/manifests/" in self.path:
                kind, body = MANIFEST, registry.manifest
                registry.asked += 1
            elif self.path.rstrip("/") == "/v2":
                body = b"{}"
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body or b"")))
            self.send_header("Docker-Content-Digest", digest_of(body or b""))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield from found_engine()


@pytest.fixture
def workspace(engine: Engine, tmp_path: Path) -> Iterator[Workspace]:
    workspace = workspace_in(tmp_path)
    yield workspace
    engine.clear(build=workspace.build)


@pytest.fixture
def base(engine: Engine) -> Iterator[tuple[Registry, int]]:
    """The registry's image, as it was pulled once, and the port; the registry does not run."""
    registry = Registry()
    registry.put("old")
    with served(registry) as port:
        engine.client.images.pull(f"127.0.0.1:{port}/base", "1")
    registry.asked = 0
    yield registry, port
    engine.client.images.remove(f"127.0.0.1:{port}/base:1", force=True)


def an_executor(engine: Engine, rule: PullRule) -> Executor:
    executor: Executor = engine.executor()
    variables = client_environment(os.environ)
    executor._builder = ImageBuilder(variables, engine.stack, rule)  # type: ignore[attr-defined]
    return executor


async def built_on(
    executor: Executor, engine: Engine, workspace: Workspace, port: int, tmp_path: Path
) -> tuple[str, list[str]]:
    """Builds an image on the base; returns the content of `/version` in it, and what was printed."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "Dockerfile").write_text(f"FROM 127.0.0.1:{port}/base:1\nCMD ['none']\n")
    printed = Printed()
    artifact = await executor.seal(workspace, SealRequest(source, None, AT, "http://127.0.0.1/a.git"), printed, Stop())
    container = engine.client.containers.create(artifact.digest)
    try:
        chunks, _ = container.get_archive("/version")
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            file = tar.extractfile("version")
            assert file is not None
            return file.read().decode(), printed.lines
    finally:
        container.remove()


@pytest.mark.parametrize(
    ("rule", "version", "asked"), [("missing", "old", False), ("daily", "new", True), ("always", "new", True)]
)
async def test_an_update_of_a_base_image_arrives_by_the_rule(
    engine: Engine,
    workspace: Workspace,
    base: tuple[Registry, int],
    tmp_path: Path,
    rule: PullRule,
    version: str,
    asked: bool,
) -> None:
    registry, port = base
    registry.put("new")
    with served(registry, port):
        found, _ = await built_on(an_executor(engine, rule), engine, workspace, port, tmp_path)
    assert (found, registry.asked > 0) == (version, asked)


async def test_a_registry_that_does_not_answer_is_a_warning_where_the_image_is_there(
    engine: Engine, workspace: Workspace, base: tuple[Registry, int], tmp_path: Path
) -> None:
    found, lines = await built_on(an_executor(engine, "always"), engine, workspace, base[1], tmp_path)
    assert found == "old"
    warning = f"warning: 127.0.0.1:{base[1]}/base:1 could not be pulled (exited with 1); the build goes on"
    assert any(line.startswith(warning) for line in lines)


async def test_daily_asks_once_for_the_builds_of_a_day(
    engine: Engine, workspace: Workspace, base: tuple[Registry, int], tmp_path: Path
) -> None:
    registry, port = base
    executor, counts = an_executor(engine, "daily"), []
    with served(registry, port):
        for number in range(2):
            (tmp_path / f"{number}").mkdir()
            await built_on(executor, engine, workspace, port, tmp_path / f"{number}")
            counts.append(registry.asked)
    assert counts[0] == counts[1] > 0
