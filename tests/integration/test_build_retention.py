"""A whole service deletes old logs, reports, artifacts and records, and says so on pages and in answers; it keeps the
newest, and artifacts that have a release.
"""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.build.service import BuildService, Developer, eventually

pytestmark = pytest.mark.slow

APP = "notes"
MANIFEST = f"""app: {APP}
steps:
- {{name: unit, stage: test, commands: [sh ci.sh], reports: {{junit: unit.xml}}}}
run: {{command: python app.py}}
"""
FILES = {"slipway.yml": MANIFEST, "ci.sh": "echo \"<testsuite><testcase name='t'/></testsuite>\" > unit.xml\n"}
RECORDS = 100
RELEASED, GONE, NEWEST = "notes-1", ["notes-2", "notes-3"], "notes-4"
HTML = {"Accept": "text/html"}


@pytest.fixture
def build_settings() -> dict[str, str]:
    limits = {"DAYS": "1", "LOGS": "1", "ARTIFACTS": "1", "RECORDS": str(RECORDS)}
    return {f"SLIPWAY_BUILD_KEEP_{name}": value for name, value in limits.items()}


class Past:
    """Makes what a service that is down has stored older than it is."""

    def __init__(self, service: BuildService, database: Any) -> None:
        self._service = service
        self._database = database

    def of(self, builds: list[str], older: Callable[[dict[str, Any]], None]) -> None:
        """The next service finds it so, and looks at what expires at its start."""
        self._service.kill()
        for build in builds:
            record = json.loads(self._database.get(f"build:build:{build}"))
            older(record)
            self._database.set(f"build:build:{build}", json.dumps(record))
        self._service.start()

    def many_more(self) -> None:
        """Adds as many newer builds, of another branch, as records are kept."""
        self._service.kill()
        record = json.loads(self._database.get(f"build:build:{NEWEST}"))
        for number in range(1001, 1001 + RECORDS):
            newer = {**record, "id": f"{APP}-{number}", "number": number, "branch": "dev", "artifact": None}
            place = self._database.incr("build:place")
            self._database.set(f"build:build:{newer['id']}", json.dumps(newer))
            for index in ("build:all", f"build:of:{APP}"):
                self._database.zadd(index, {newer["id"]: place})
        self._service.start()


def earlier(text: str, **span: float) -> str:
    return (datetime.fromisoformat(text) - timedelta(**span)).isoformat()


def ended_days_ago(record: dict[str, Any]) -> None:
    record["finished_at"] = earlier(record["finished_at"], days=3)


def noted_an_hour_ago(record: dict[str, Any]) -> None:
    record["expired"]["artifact"] = earlier(record["expired"]["artifact"], hours=1)


def folders(service: BuildService) -> list[str]:
    return sorted(path.name for path in (service.home / "releases" / APP).iterdir() if path.name[0] != ".")


def kept_of(service: BuildService, build: str) -> list[bool]:
    """Returns whether the build's log exists, and whether its report does."""
    home = service.home
    return [(home / "logs" / "builds" / f"{build}.log").exists(), (home / "reports" / f"{build}.json.gz").exists()]


def test_old_builds_go_by_rule_and_the_newest_stay(service: BuildService, database: Any, tmp_path: Path) -> None:
    developer = Developer(tmp_path / "work", service, APP)
    commit = developer.commit(FILES)
    assert f"{RELEASED} success" in developer.push()
    for build in [*GONE, NEWEST]:
        service.http.post(f"/apps/{APP}/builds", json={"commit": commit}).raise_for_status()
        assert service.ended(build)["state"] == "success"
    past = Past(service, database)

    past.of([RELEASED, *GONE, NEWEST], ended_days_ago)
    eventually(lambda: [kept_of(service, build) for build in GONE] == [[False, False]] * 2, 20)
    for build in GONE:
        assert all(service.build(build)["expired"].values())
        for part in ("log", "tests"):
            answer = service.http.get(f"/builds/{build}/{part}")
            assert (answer.status_code, "deleted by the retention policy on" in answer.json()["detail"]) == (410, True)
        page = service.http.get(f"/builds/{build}", headers=HTML).text
        assert "were deleted by the retention policy" in page and "Its artifact is gone since" in page
    for build in (RELEASED, NEWEST):
        assert service.build(build)["expired"] == {"log": None, "artifact": None}
        assert "success" in service.log(build) and kept_of(service, build) == [True, True]
        assert [test["id"] for test in service.http.get(f"/builds/{build}/tests").json()["items"]] == ["t"]
    assert folders(service) == [RELEASED, *GONE, NEWEST], "a release may have been asked for just before"

    past.of(GONE, noted_an_hour_ago)
    eventually(lambda: folders(service) == [RELEASED, NEWEST], 20)
    service.http.post(f"/builds/{GONE[0]}/retry").raise_for_status()
    assert service.ended("notes-5")["artifact"]["ref"] == f"releases/{APP}/notes-5"

    past.many_more()
    eventually(lambda: [service.http.get(f"/builds/{build}").status_code for build in GONE] == [404, 404], 20)
    listed = [build["id"] for build in service.http.get(f"/apps/{APP}/builds?limit=100").json()["items"]]
    assert len(listed) == RECORDS and not {*GONE} & {*listed}
    assert [service.http.get(f"/builds/{build}").status_code for build in (RELEASED, NEWEST)] == [200, 200]
