"""A build can be cancelled, superseded or cut off, and its record survives the service."""

from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.build.service import BuildService, Developer, eventually, leave

pytestmark = pytest.mark.slow

APP = "notes"
SLOW = f"app: {APP}\nsteps:\n- {{name: slow, commands: [sh ci.sh]}}\nrun: {{command: x}}\n"


@pytest.fixture
def developer(tmp_path: Path, service: BuildService) -> Developer:
    return Developer(tmp_path / "work", service, APP)


def sleepers(folder: Path) -> dict[int, str]:
    """Living processes that work in the build's folder, and their names."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process.name()
        except psutil.Error:
            continue
    return found


def slowly(developer: Developer, service: BuildService, build_id: str, seconds: float = 60) -> Path:
    """Pushes a build that sleeps in its step, with a child that has left its session; its folder, once both sleep."""
    developer.commit({"slipway.yml": SLOW, "ci.sh": f"setsid sleep {seconds} &\nsleep {seconds}\n"})
    pushing = developer.push_in_background()
    folder = service.home / "releases" / APP / build_id
    eventually(lambda: list(sleepers(folder).values()).count("sleep") == 2, 20)
    leave(pushing)  # which does not end the build
    return folder


def states_of(database: Any, build_id: str) -> list[str]:
    told = [fields["event"] for _, fields in database.xrange("events")]
    return [text.split('"')[3].removeprefix("build.") for text in told if f'"id":"{build_id}"' in text]


def test_a_killed_service_takes_the_build_up_and_ends_it_once(
    service: BuildService, developer: Developer, database: Any
) -> None:
    folder = slowly(developer, service, "notes-1", seconds=3)
    before = sleepers(folder)
    service.kill()
    eventually(lambda: sleepers(folder) == {})  # what a step has started ends without the next service
    reports = service.home / "reports"
    reports.mkdir(exist_ok=True)
    (reports / ".notes-0.fresh").touch()  # a report that a killed service has left half-written
    service.start()
    build = service.ended("notes-1")
    assert (build["state"], build["attempt"]) == ("success", 2)
    assert states_of(database, "notes-1") == ["queued", "running", "success"]
    assert "begun again from the start" in service.log("notes-1")
    assert not [pid for pid in before if psutil.pid_exists(pid)]
    assert [path.name for path in reports.iterdir()] == ["notes-1.json.gz"]
    assert len(service.deployer.asked) == 1


def test_a_deploy_is_continued_by_the_next_service(service: BuildService, developer: Developer, database: Any) -> None:
    service.deployer.state = "starting"
    developer.commit({"slipway.yml": SLOW, "ci.sh": "true"})
    pushing = developer.push_in_background()
    eventually(lambda: service.build("notes-1").get("release") is not None, 20)
    service.kill()
    pushing.communicate(timeout=10)
    service.deployer.state = "live"
    service.start()
    assert service.ended("notes-1")["state"] == "success"
    assert states_of(database, "notes-1") == ["queued", "running", "success"]
    assert len(service.deployer.asked) == 1


def test_a_newer_push_supersedes_the_one_that_runs(service: BuildService, developer: Developer, database: Any) -> None:
    folder = slowly(developer, service, "notes-1")
    developer.commit({"ci.sh": "true"})
    assert "notes-2 success" in developer.push()
    older = service.build("notes-1")
    assert (older["state"], older["reason"]) == ("superseded", "superseded by notes-2, a newer push of release")
    assert states_of(database, "notes-1") == ["queued", "running", "superseded"]
    assert sleepers(folder) == {}
    assert [build for _, build in service.deployer.asked] == ["notes-2"]


def test_a_retry_of_an_older_commit_leaves_the_head_to_be_built(service: BuildService, developer: Developer) -> None:
    developer.commit({"slipway.yml": SLOW, "ci.sh": "true"})
    assert "notes-1 success" in developer.push()
    waiting = f"touch {service.home}/begun\nwhile [ ! -e {service.home}/over ]; do sleep 0.05; done\n"
    developer.commit({"ci.sh": waiting})
    pushing = developer.push_in_background()
    eventually((service.home / "begun").exists, 20)
    assert service.http.post("/builds/notes-1/retry").status_code == 202
    retried = service.ended("notes-3")
    assert retried["state"] == "superseded"
    assert retried["reason"].startswith("superseded by notes-2, which builds the head of release")
    (service.home / "over").touch()
    assert "notes-2 success" in pushing.communicate(timeout=20)[0]
    assert [build for _, build in service.deployer.asked] == ["notes-1", "notes-2"]


def test_a_newer_push_does_not_wait_for_a_deploy(service: BuildService, developer: Developer) -> None:
    service.deployer.state = "starting"
    developer.commit({"slipway.yml": SLOW, "ci.sh": "true"})
    first = developer.push_in_background()
    eventually(lambda: len(service.deployer.asked) == 1, 20)
    developer.commit({"ci.sh": "echo second"})
    second = developer.push_in_background()
    eventually(lambda: len(service.deployer.asked) == 2, 20)
    service.deployer.state = "live"
    assert "notes-1 success" in first.communicate(timeout=20)[0]
    assert "notes-2 success" in second.communicate(timeout=20)[0]
    assert [build for _, build in service.deployer.asked] == ["notes-1", "notes-2"]


def test_a_cancelled_build_leaves_no_process(service: BuildService, developer: Developer, database: Any) -> None:
    folder = slowly(developer, service, "notes-1")
    assert service.http.post("/builds/notes-1/cancel").status_code == 202
    build = service.ended("notes-1")
    assert (build["state"], build["reason"]) == ("cancelled", "cancelled by hand")
    assert sleepers(folder) == {}
    assert not folder.exists()
    assert service.http.post("/builds/notes-1/cancel").status_code == 409
    assert states_of(database, "notes-1") == ["queued", "running", "cancelled"]


def test_a_push_that_nobody_heard_is_built(service: BuildService, developer: Developer, tmp_path: Path) -> None:
    developer.commit({"slipway.yml": SLOW, "ci.sh": "true"})
    developer.push("HEAD:main")
    repository = service.home / "repositories" / f"{APP}.git"
    developer.git("push", "--quiet", "--no-verify", str(repository), "HEAD:release")  # no hook runs
    build = service.ended("notes-1")
    assert (build["state"], build["branch"]) == ("success", "release")
    assert [item["id"] for item in service.http.get(f"/apps/{APP}/builds").json()["items"]] == ["notes-1"]
