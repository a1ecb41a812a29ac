"""A whole run of a build with containers: checkout, steps, reports, gates, image. Nothing is deployed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.build.builds import build as domain
from services.build.executors.docker.dockerfile import PYTHON
from services.build.pipeline.run import run_build
from services.build.system.stop import Stop
from shared.clock import now
from shared.models import BuildState
from tests.support.build.executors import Engine, found_engine
from tests.support.build.platform import Platform, platform_with

pytestmark = [pytest.mark.anyio, pytest.mark.docker]
JUNIT = "<testsuite><testcase name='adds'/></testsuite>"
STEPS = """app: notes
steps:
- {name: make, commands: [echo by a step > made]}
- {name: test, stage: test, commands: [%s], reports: {junit: out/junit.xml}}
run: {command: cat app.txt made}
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield from found_engine()


@pytest.fixture
async def platform(engine: Engine, tmp_path: Path, redis: Redis) -> Platform:
    return await platform_with(engine.executor(), tmp_path, redis)


async def test_what_passed_is_an_image_of_the_commit(engine: Engine, platform: Platform) -> None:
    script = f"grep -q step made\nmkdir out\ncat > out/junit.xml <<'END'\n{JUNIT}\nEND\n"
    files = {"slipway.yml": STEPS % "sh ci.sh", "ci.sh": script, "app.txt": "hello\n", "made": "by the commit\n"}
    build = await platform.build(files)
    said = "passed; not deployed, because its branch has no environment"
    assert (build.state, build.reason) == (BuildState.SUCCESS, said)
    assert [(step.name, step.state) for step in build.steps] == [("make", "success"), ("test", "success")]
    assert build.artifact is not None
    assert (build.artifact.kind, build.artifact.ref) == ("image", f"slipway/notes:{engine.stack}-{build.commit}")
    assert (build.artifact.ref, build.artifact.digest) in (await platform.context.executor.images() or ())
    printed = engine.client.containers.run(build.artifact.digest, remove=True, network="none")
    assert printed == b"hello\nby the commit\n"
    assert engine.containers() + engine.volumes(build=build.id) == []
    assert not (platform.context.releases / "notes" / build.id).exists()


async def test_a_report_of_the_commit_does_not_count(engine: Engine, platform: Platform) -> None:
    files = {"slipway.yml": STEPS % "cp kept.xml out/junit.xml", "kept.xml": JUNIT, "out/junit.xml": JUNIT}
    build = await platform.build(files)
    assert build.state is BuildState.FAILURE
    assert "copy of a file of the commit" in build.reason
    assert engine.containers() + engine.volumes(build=build.id) == []


async def test_an_image_that_cannot_be_built_fails_the_build(engine: Engine, platform: Platform) -> None:
    dockerfile = "FROM python:3.13-slim\nRUN echo no such luck; exit 3\n"
    build = await platform.build({"Dockerfile": dockerfile})
    assert (build.state, build.artifact) == (BuildState.FAILURE, None)
    assert build.reason == "passed its gates, but could not be built as an image: it exited with 1"
    assert "no such luck" in build.excerpt
    assert engine.volumes(build=build.id) == []


async def test_a_node_app_is_built_as_it_is_by_processes(engine: Engine, platform: Platform) -> None:
    package = {"scripts": {"build": "mkdir dist && echo built > dist/made", "start": "cat dist/made"}}
    build = await platform.build({"package.json": json.dumps(package), "Procfile": "web: cat dist/made"})
    assert [(step.name, step.state) for step in build.steps] == [("npm", "success"), ("build", "success")], build.reason
    assert build.artifact is not None, build.reason
    assert engine.client.containers.run(build.artifact.digest, remove=True, network="none") == b"built\n"


@pytest.mark.parametrize(
    ("exposed", "manifest", "port"),
    [
        ("EXPOSE 9000", "", 9000),
        ("EXPOSE 9000", "app: notes\nrun: {port: 7000}\n", 7000),
        ("EXPOSE 443 80/tcp 2019", "", 80),
        ("EXPOSE 9000 9001", "", 8000),
        ("EXPOSE 53/udp", "", 8000),
        ("", "", 8000),
    ],
)
async def test_the_port_that_an_image_exposes_is_that_of_the_app(
    platform: Platform, exposed: str, manifest: str, port: int
) -> None:
    files = {"Dockerfile": f"FROM {PYTHON}\n{exposed}\n", **({"slipway.yml": manifest} if manifest else {})}
    build = await platform.build(files)
    assert build.manifest is not None, build.reason
    assert (build.state, build.manifest.run.port) == (BuildState.SUCCESS, port)
    said = ("run.port", str(port), "EXPOSE of the image")
    assert ([said] if port in (80, 9000) else []) == [(each.key, each.value, each.origin) for each in build.inferred]
    again = await platform.again(build, fresh=False)
    assert (again.reused, again.manifest) == (build.id, build.manifest)


async def test_what_a_killed_service_left_is_no_part_of_the_next_attempt(engine: Engine, platform: Platform) -> None:
    files = {"slipway.yml": STEPS.replace("echo by", "test ! -e stale && echo by") % "ls", "app.txt": ""}
    queued = await platform.queue(files)
    await platform.store.update(queued.id, lambda build: domain.started(build, now()))
    name = f"slipway-{engine.stack}-{queued.id}"
    labels = {"io.slipway.stack": engine.stack, "io.slipway.app": "notes", "io.slipway.build": queued.id}
    engine.client.volumes.create(name, labels=labels)
    left = engine.client.containers.create(
        PYTHON, ["sh", "-c", "touch /workspace/stale; sleep 60"], labels=labels, volumes=[f"{name}:/workspace"]
    )
    left.start()
    await run_build(platform.context, queued.id, Stop())
    build = await platform.store.build(queued.id)
    assert "begun again from the start; 1 leftovers" in platform.log(build)
    assert left.id not in engine.containers()
    assert (build.state, build.attempt) == (BuildState.FAILURE, 2)
    assert build.reason.endswith("no readable figure: out/junit.xml was not written by the step")
    assert [step.state for step in build.steps] == ["success", "success"]
