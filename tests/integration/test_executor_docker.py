"""Steps in containers get their environment, limits and files, and a build that passed becomes an image."""

import asyncio
import importlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.build.executors.docker.container_step import CACHE
from services.build.executors.docker.dockerfile import PYTHON
from services.build.executors.executor import (
    Executor,
    ExecutorObjects,
    Order,
    SealRequest,
    ServiceOrder,
    Unsealed,
    Workspace,
)
from services.build.inference.infer import infer
from services.build.inference.tree import Tree
from services.build.system.stop import Stop, Stopped
from shared.manifest import MIB
from shared.models import Artifact
from tests.support.build.executors import Engine, Printed, found_engine, workspace_in

NODE = "node:20-slim"
pytestmark = [pytest.mark.anyio, pytest.mark.docker]
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LOCK = {"name": "web", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "web", "version": "1.0.0"}}}
SERVER = "require('http').createServer((_, a) => a.end(`${process.getuid()}`)).listen(process.env.PORT)\n"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield from found_engine()


@pytest.fixture
async def executor(engine: Engine, workspace: Workspace, anyio_backend: str) -> Executor:
    executor: Executor = engine.executor(memory_bytes=96 * MIB)
    await executor.prepare(workspace, Printed(), Stop())
    return executor


@pytest.fixture
def workspace(engine: Engine, tmp_path: Path) -> Iterator[Workspace]:
    workspace = workspace_in(tmp_path)
    yield workspace
    engine.clear(build=workspace.build)


async def step(executor: Executor, workspace: Workspace, *commands: str, image: str | None = None) -> list[str]:
    """Runs a step, which must succeed, and returns the lines that it printed."""
    printed = Printed()
    outcome = await executor.run(workspace, Order(commands, 60, image=image), printed, Stop())
    assert outcome.reason == "", printed.data
    return printed.lines


def delivery(folder: Path, files: dict[str, str], command: str | None = None) -> SealRequest:
    source = folder / "source"
    source.mkdir(exist_ok=True)
    for name, text in files.items():
        (source / name).write_text(text)
    tree = Tree(files, {name: text.encode() for name, text in files.items()})
    stages = infer(tree, images=True, present={}, written=command).stages
    return SealRequest(source, command, AT, "http://127.0.0.1:3000/git/notes.git", stages=stages)


def answer(engine: Engine, artifact: Artifact, *program: str, **options: Any) -> str:
    output: bytes = engine.client.containers.run(artifact.digest, list(program), remove=True, network="none", **options)
    return output.decode().strip()


@pytest.mark.parametrize("command", ["python -c 'b\"x\" * 2**28'", "python -c 'b\"x\" * 2**28'; true"])
async def test_a_step_is_held_to_its_memory(executor: Executor, workspace: Workspace, command: str) -> None:
    outcome = await executor.run(workspace, Order([command], 60), Printed(), Stop())
    assert outcome.reason == "used more than its 96 MiB of memory"


async def test_a_step_that_forks_without_end_is_held_to_its_processes_and_ended(
    engine: Engine, workspace: Workspace
) -> None:
    executor: Executor = engine.executor(processes=64)
    await executor.prepare(workspace, Printed(), Stop())
    printed = Printed()
    outcome = await executor.run(workspace, Order(["while sleep 60 & do :; done"], 60), printed, Stop())
    assert (outcome.exit_code, outcome.reason) == (2, "exited with 2")
    assert b"Cannot fork" in printed.data
    assert engine.containers(build=workspace.build) == []


async def test_it_runs_in_the_image_that_it_names_else_in_one_of_python(
    executor: Executor, workspace: Workspace
) -> None:
    assert await step(executor, workspace, "command -v npm", image=NODE) == ["/usr/bin/npm"]
    assert await step(executor, workspace, "command -v npm || echo none") == ["none"]


async def test_an_image_that_there_is_not_is_an_outcome(executor: Executor, workspace: Workspace) -> None:
    order = Order(["true"], 60, image="127.0.0.1:9/none:1")
    outcome = await executor.run(workspace, order, Printed(), Stop())
    assert outcome.exit_code is None
    assert outcome.reason.startswith("could not be started: the image 127.0.0.1:9/none:1 cannot be pulled")


async def test_the_cache_of_an_app_outlives_its_builds(
    engine: Engine, executor: Executor, workspace: Workspace, tmp_path: Path
) -> None:
    await step(executor, workspace, "mkdir -p $PIP_CACHE_DIR", "date +%N > $PIP_CACHE_DIR/kept")
    kept = await step(executor, workspace, f"cat {CACHE}/pip/kept")
    await executor.discard(workspace)
    other = workspace_in(tmp_path / "other", number=8)
    await executor.prepare(other, Printed(), Stop())
    try:
        assert await step(executor, other, f"cat {CACHE}/pip/kept") == kept
    finally:
        engine.clear(build=other.build)


async def test_a_step_reaches_neither_the_engine_nor_another_build(executor: Executor, workspace: Workspace) -> None:
    lines = await step(executor, workspace, "ls /var/run/docker.sock 2>/dev/null || echo no socket", "ls -A /workspace")
    assert lines == ["no socket", ".venv"]


async def test_a_steps_container_is_bounded_and_labelled(
    engine: Engine, executor: Executor, workspace: Workspace
) -> None:
    printed, stop = Printed(), Stop()
    running = asyncio.create_task(executor.run(workspace, Order(["echo begun; sleep 60"], 60), printed, stop))
    await printed.wait_for(b"\nbegun")
    [container] = engine.containers(build=workspace.build)
    told = engine.client.api.inspect_container(container)
    stop.set()
    await running
    limits = told["HostConfig"]
    assert (limits["Memory"], limits["MemorySwap"], limits["PidsLimit"]) == (96 * MIB, 96 * MIB, 4096)
    assert (limits["Privileged"], limits["SecurityOpt"]) == (False, ["no-new-privileges"])
    assert {mount["Destination"] for mount in told["Mounts"]} == {"/workspace", "/slipway/home", "/slipway/cache"}
    assert {key: value for key, value in told["Config"]["Labels"].items() if key.startswith("io.slipway.")} == {
        "io.slipway.app": "notes",
        "io.slipway.build": workspace.build,
        "io.slipway.stack": engine.stack,
    }
    assert engine.containers() == []


async def test_leftovers_of_this_workspace_alone_are_ended(
    engine: Engine, executor: Executor, workspace: Workspace, tmp_path: Path
) -> None:
    """The service died: another executor finds the container of the step by its labels."""
    printed, stop = Printed(), Stop()
    running = asyncio.create_task(executor.run(workspace, Order(["echo begun; sleep 60"], 60), printed, stop))
    await printed.wait_for(b"\nbegun")
    later: Executor = engine.executor()
    assert await later.end_leftovers(workspace_in(tmp_path / "other", number=8)) == 0
    assert await later.end_leftovers(workspace) == 1
    assert engine.containers(build=workspace.build) == []
    assert engine.volumes(build=workspace.build) == []
    assert await later.end_leftovers(workspace) == 0
    running.cancel()
    await asyncio.wait({running})


async def test_what_another_stack_left_is_not_seen(
    engine: Engine, executor: Executor, workspace: Workspace, tmp_path: Path
) -> None:
    other = Engine(engine.client)
    others: Executor = other.executor()
    await others.prepare(workspace, Printed(), Stop())
    try:
        mine, theirs = await executor.objects(), await others.objects()
        assert mine == theirs == ExecutorObjects(frozenset({workspace.build}), frozenset({"notes"}))
        await executor.remove(mine)
        assert (await executor.objects()).builds == frozenset()
        assert await others.objects() == theirs
    finally:
        other.clear()


async def test_an_image_tells_when_it_was_last_built(
    engine: Engine, executor: Executor, workspace: Workspace, tmp_path: Path
) -> None:
    """Also where BuildKit had it already, and its first date stays."""
    seen = []
    for _ in range(2):
        await executor.seal(workspace, delivery(tmp_path, {"app.py": "pass\n"}, "python app.py"), Printed(), Stop())
        seen.append(engine.client.images.get(f"slipway/notes:{engine.stack}-{'a' * 40}"))
    assert seen[0].id == seen[1].id
    assert seen[0].attrs["Metadata"]["LastTagTime"] < seen[1].attrs["Metadata"]["LastTagTime"]


async def test_an_image_that_is_asked_for_again_is_spared_by_who_removes_old_ones(
    engine: Engine, executor: Executor, workspace: Workspace, tmp_path: Path
) -> None:
    given = delivery(tmp_path, {"app.py": "pass\n"}, "python app.py")
    artifact = await executor.seal(workspace, given, Printed(), Stop())
    before = engine.client.images.get(artifact.digest).attrs["Metadata"]["LastTagTime"]
    assert await executor.has(artifact)
    assert engine.client.images.get(artifact.digest).attrs["Metadata"]["LastTagTime"] > before
    engine.client.images.get(PYTHON).tag(*artifact.ref.split(":"))
    assert not await executor.has(artifact)  # another one has its name
    engine.client.images.remove(artifact.ref)
    assert not await executor.has(artifact)


async def test_an_engine_that_is_not_there_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    executor = Engine(None).executor()
    assert "start it" in await executor.check()
    assert await executor.images() is None


async def test_images_are_listed_by_tag_and_id_and_that_is_no_use_of_them(engine: Engine, executor: Executor) -> None:
    container = engine.client.containers.create(PYTHON, ["true"])
    labels = f"LABEL io.slipway.stack={engine.stack} io.slipway.app=notes"
    image = container.commit("slipway/notes", f"{engine.stack}-listed", changes=[labels])
    container.remove()
    tagged_at = engine.client.images.get(image.id).attrs["Metadata"]["LastTagTime"]
    assert (image.tags[0], image.id) in (await executor.images() or ())
    assert engine.client.images.get(image.id).attrs["Metadata"]["LastTagTime"] == tagged_at
    engine.client.images.remove(image.tags[0])
    listed = await executor.images()
    assert listed is not None and (image.tags[0], image.id) not in listed


async def test_of_a_removed_app_no_image_is_left_but_one_that_is_used(engine: Engine, executor: Executor) -> None:
    """Also its only one: the deployer, which removes images that no release needs, then knows of none."""
    container = engine.client.containers.create(PYTHON, ["true"])
    made = {}
    for app, tag in (("gone", "waste"), ("gone", "used"), ("gone", "mine"), ("notes", "others")):
        labels = f"LABEL io.slipway.stack={engine.stack} io.slipway.app={app} of={tag}"
        made[tag] = container.commit(f"slipway/{app}", f"{engine.stack}-{tag}", changes=[labels])
    container.remove()
    made["waste"].tag("slipway/gone", f"{engine.stack}-waste-again")
    made["mine"].tag(f"{engine.stack}/mine")
    user = engine.client.containers.create(made["used"].id, ["true"])
    try:
        for _ in range(2):
            await executor.remove(ExecutorObjects(frozenset(), frozenset({"gone"})))
        left = {image.id for image in engine.images()}
        assert [tag for tag, image in made.items() if image.id in left] == ["used", "mine", "others"]
    finally:
        user.remove()


async def test_a_node_app_without_a_dockerfile(
    engine: Engine, executor: Executor, workspace: Workspace, tmp_path: Path
) -> None:
    package = {"name": "web", "version": "1.0.0", "scripts": {"start": "node server.js"}}
    files = {"package.json": json.dumps(package), "package-lock.json": json.dumps(LOCK), "server.js": SERVER}
    given = delivery(tmp_path, files, "npm start")
    artifact = await executor.seal(workspace, given, Printed(), Stop())
    assert (artifact.kind, artifact.ref) == ("image", f"slipway/notes:{engine.stack}-{'a' * 40}")
    image = engine.client.images.get(artifact.ref)
    assert (image.id, image.attrs["Config"]["User"]) == (artifact.digest, "10001:10001")
    assert image.labels == {
        "io.slipway.app": "notes",
        "io.slipway.stack": engine.stack,
        "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
        "org.opencontainers.image.revision": "a" * 40,
        "org.opencontainers.image.source": "http://127.0.0.1:3000/git/notes.git",
        "org.opencontainers.image.title": "notes",
        "org.opencontainers.image.version": "a" * 12,
    }
    container = engine.client.containers.create(
        artifact.digest, environment={"PORT": "8000"}, labels={"io.slipway.stack": engine.stack}, init=True
    )
    container.start()
    ask = "fetch('http://127.0.0.1:8000').then(a => a.text()).then(t => console.log(t))"
    async with asyncio.timeout(20):
        while (asked := container.exec_run(["node", "-e", ask])).exit_code:
            await asyncio.sleep(0.1)
    container.remove(force=True)
    assert asked.output == b"10001\n"


async def test_a_python_app_with_a_dockerfile_that_mounts_a_cache(
    engine: Engine, executor: Executor, workspace: Workspace, tmp_path: Path
) -> None:
    text = (
        f"FROM {PYTHON}\nRUN --mount=type=cache,target=/c --mount=type=secret,id=s echo made > /made\nCOPY app.py /\n"
    )
    given = delivery(tmp_path, {"Dockerfile": text + 'CMD ["python", "/app.py"]\n', "app.py": "print('hello')\n"})
    (given.source / "app.py").chmod(0o600)  # as a service with another umask writes it
    printed = Printed()
    artifact = await executor.seal(workspace, given, printed, Stop())
    assert answer(engine, artifact) == "hello"
    assert answer(engine, artifact, "stat", "-c", "%Y %a", "/app.py") == f"{int(AT.timestamp())} 644"
    assert b"--mount=type=cache" in printed.data


async def test_the_same_commit_is_the_same_image(executor: Executor, workspace: Workspace, tmp_path: Path) -> None:
    files = {"requirements.txt": "", "app.py": "print('hello')\n"}
    first = await executor.seal(workspace, delivery(tmp_path, files, "python app.py"), Printed(), Stop())
    assert await executor.seal(workspace, delivery(tmp_path, files, "python app.py"), Printed(), Stop()) == first
    # Of the same size and date.
    changed = delivery(tmp_path, {**files, "app.py": "print('other')\n"}, "python app.py")
    assert (await executor.seal(workspace, changed, Printed(), Stop())).digest != first.digest


async def test_a_new_volume_belongs_to_the_apps_user(
    engine: Engine, executor: Executor, workspace: Workspace, tmp_path: Path
) -> None:
    given = replace(delivery(tmp_path, {}, "./run"), volumes=["/data", "/app/data"])
    artifact = await executor.seal(workspace, given, Printed(), Stop())
    for path in given.volumes:
        volume = engine.client.volumes.create(labels={"io.slipway.stack": engine.stack})
        mounted = {volume.name: {"bind": path, "mode": "rw"}}
        assert answer(engine, artifact, "sh", "-c", f"id -u > {path}/own; cat {path}/own", volumes=mounted) == "10001"


async def test_what_cannot_be_built_says_why(executor: Executor, workspace: Workspace, tmp_path: Path) -> None:
    printed = Printed()
    given = delivery(tmp_path, {"Dockerfile": f"FROM {PYTHON}\nRUN echo told; exit 3\n"})
    with pytest.raises(Unsealed, match="could not be built as an image: it exited with 1"):
        await executor.seal(workspace, given, printed, Stop())
    assert b"told" in printed.data


async def test_a_stopped_build_of_an_image_ends_at_once(
    executor: Executor, workspace: Workspace, tmp_path: Path
) -> None:
    printed, stop = Printed(), Stop()
    given = delivery(tmp_path, {"Dockerfile": f"FROM {PYTHON}\nRUN echo be''gun; sleep 60\n"})
    sealing = asyncio.create_task(executor.seal(workspace, given, printed, stop))
    await printed.wait_for(b"begun")
    begun = time.monotonic()
    stop.set()
    with pytest.raises(Stopped):
        await sealing
    assert time.monotonic() - begun < 30, "half of what its step takes"


async def test_services_of_a_killed_build_are_found_and_removed(
    engine: Engine, executor: Executor, workspace: Workspace
) -> None:
    labels = {f"io.slipway.{key}": value for key, value in (("stack", engine.stack), ("build", workspace.build))}
    module = importlib.import_module(
        "services.build.executors.docker.services"
    )  # needs a package that processes do without
    left = module.DockerServices(lambda: engine.client, f"left-of-{engine.stack}", labels, 96 * MIB)
    order = ServiceOrder("db", PYTHON, "exec python -m http.server 8123", {}, 8123, None, 30)
    await asyncio.to_thread(left.start, [order], lambda data: None, threading.Event())
    assert (await executor.objects()).builds == {workspace.build}
    assert await executor.end_leftovers(workspace) == 1
    assert engine.containers(build=workspace.build) == []
    assert engine.client.networks.list(names=[f"left-of-{engine.stack}"]) == []


async def test_a_step_reaches_its_service_by_name_and_leaves_no_network(
    engine: Engine, executor: Executor, workspace: Workspace
) -> None:
    order = ServiceOrder("db", PYTHON, "exec python -m http.server 8123", {}, 8123, None, 30)
    ask = "python -c 'import urllib.request as u; print(u.urlopen(\"http://db:8123/\").status)'"
    printed = Printed()
    outcome = await executor.run(workspace, Order([ask], 60, services=[order]), printed, Stop())
    assert (outcome.reason, printed.lines[-1]) == ("", "200")
    assert engine.client.networks.list(filters={"label": f"io.slipway.stack={engine.stack}"}) == []
