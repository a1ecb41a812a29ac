"""The build service killed with -9 at random moments of builds in containers: one end, one image, nothing left over."""

import functools
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.build.executors import Engine, found_engine
from tests.support.build.service import BuildService, Developer, eventually

pytestmark = pytest.mark.docker
SEED = int(os.environ.get("E2E_SEED", time.time()))
ROUNDS = int(os.environ.get("E2E_KILLS", "2"))  # 10 where there is time
LATEST_S = 4.0
MANIFEST = """app: notes
steps: [{name: count, commands: ["for n in 1 2 3 4 5 6; do echo tick $n; sleep 0.2; done"]}]
run: {command: cat app.txt}
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield from found_engine()


@pytest.fixture
def build_settings(engine: Engine) -> dict[str, str]:
    return {"SLIPWAY_DRIVER": "docker", "SLIPWAY_STACK": engine.stack}


def is_queued(service: BuildService, build_id: str) -> bool:
    return service.http.get(f"/builds/{build_id}").status_code == 200


def states_told(database: Any, build_id: str) -> list[str]:
    events = [json.loads(fields["event"]) for _, fields in database.xrange("events")]
    return [event["type"] for event in events if event.get("id") == build_id]


def test_a_build_in_containers_whose_service_is_killed_ends_once(
    service: BuildService, engine: Engine, database: Any, tmp_path: Path
) -> None:
    developer, chance, images = Developer(tmp_path / "work", service, "notes"), random.Random(SEED), set()
    for number in range(1, ROUNDS + 1):
        build_id, moment_s = f"notes-{number}", chance.uniform(0, LATEST_S)
        said = f"seed {SEED}, round {number}, killed after {moment_s:.2f} s"
        commit = developer.commit({"slipway.yml": MANIFEST, "app.txt": f"{number}\n"})
        pushing = developer.push_in_background()
        eventually(functools.partial(is_queued, service, build_id), 30)
        time.sleep(moment_s)
        service.kill()
        pushing.communicate(timeout=30)
        service.start()
        build = service.ended(build_id)
        assert build["state"] == "success", f"{said}: {build}"
        assert states_told(database, build_id) == ["build.queued", "build.running", "build.success"], said
        assert engine.containers(build=build_id) + engine.volumes(build=build_id) == [], said
        image = engine.client.images.get(f"slipway/notes:{engine.stack}-{commit}")
        assert (build["artifact"]["ref"], build["artifact"]["digest"]) == (image.tags[0], image.id), said
        images.add(image.id)
        asked = service.deployer.asked
        assert asked[-1][1] == build_id and len(set(asked)) == number, said
    found = engine.client.images.list(filters={"label": f"io.slipway.stack={engine.stack}"})
    assert {image.id for image in found if image.tags} == images and len(images) == ROUNDS
