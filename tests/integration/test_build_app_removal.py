"""A whole build service removes an app, refuses pushes meanwhile, and goes on after it was killed."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.build.service import BuildService, Developer, eventually

MANIFEST = "app: notes\nrun: {command: python app.py}\n"


def traces(service: BuildService, database: Any) -> list[str]:
    """Keys and files of the build service in which the app's name is found, apart from streams and logs of programs."""
    keys = [key for key in database.scan_iter("*notes*")]
    for key in ("build:all", "build:unended"):
        keys += [each for each in database.zrange(key, 0, -1) if "notes" in each]
    keys += [each for each in database.smembers("build:apps") if "notes" in each]
    return sorted(keys + [str(path.relative_to(service.home)) for path in service.home.rglob("*notes*")])


def pushed(service: BuildService, folder: Path) -> Developer:
    developer = Developer(folder, service, "notes")
    developer.commit({"app.py": "print('hello')\n", "slipway.yml": MANIFEST})
    developer.push()
    return developer


def test_nothing_is_left_of_a_removed_app(tmp_path: Path, redis_server: str, database: Any) -> None:
    with BuildService(tmp_path / "home", redis_server).running() as service:
        developer = pushed(service, tmp_path / "work")
        assert service.ended("notes-1") and traces(service, database)
        service.deployer.removal = {"state": "removing", "waits_for": {"production": "waits for the end of notes-r1-1"}}
        assert service.http.delete("/apps/notes").status_code == 202
        said = "production: waits for the end of notes-r1-1"
        eventually(lambda: service.http.get("/apps/notes").json()["removing"]["waits_for"] == said)
        assert "notes is being removed" in developer.push("HEAD:dev")
        service.deployer.removal = None
        eventually(lambda: service.http.get("/apps/notes").status_code == 404)
        assert traces(service, database) == []
        assert service.http.get("/builds/notes-1").status_code == 404
        time.sleep(4)  # the loop that queues what no hook has reported has run
        assert traces(service, database) == []

        assert "notes-1 queued" in developer.push()
        assert service.ended("notes-1")


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.5])
def test_the_service_may_be_killed(tmp_path: Path, redis_server: str, database: Any, after_s: float) -> None:
    with BuildService(tmp_path / "home", redis_server).running() as service:
        pushed(service, tmp_path / "work")
        assert service.http.delete("/apps/notes").status_code == 202
        time.sleep(after_s)
        service.kill()
        service.start()
        eventually(lambda: service.http.get("/apps/notes").status_code == 404)
        assert traces(service, database) == []
