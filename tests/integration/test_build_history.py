"""Builds with real steps leave reports, a comparison and links from steps to the log, and none of these shows a
secret.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.build.service import BuildService, Developer

APP = "looked-at"
MANIFEST = f"""\
app: {APP}
steps:
- name: unit
  stage: test
  secrets: [API_KEY]
  commands: [sh report.sh]
  reports: {{junit: unit.xml, coverage: lcov.info, sarif: lint.sarif}}
run: {{command: python app.py}}
"""
REPORT = """\
echo "the key is $API_KEY"
cat > unit.xml <<END
<testsuite><testcase name='adds' time='0.5'/>
<testcase name='divides' time='0.1'>{failure}</testcase></testsuite>
END
printf 'SF:app.py\\nDA:1,1\\nDA:2,0\\nend_of_record\\n' > lcov.info
echo '{{"version": "2.1.0", "runs": [{{"tool": {{"driver": {{"name": "lint"}}}}, "results": [{{"ruleId": "E1",
  "message": {{"text": "is bad"}}, "locations": [{{"physicalLocation": {{"artifactLocation": {{"uri": "app.py"}},
  "region": {{"startLine": 2}}}}}}]}}]}}]}}' > lint.sarif
"""
FAILURE = "<failure message='with $API_KEY'>by zero: $API_KEY</failure>"
SECRET = "sesame-open-123"
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[BuildService]:
    with BuildService(tmp_path_factory.mktemp("home"), redis_server).running() as service:
        yield service


@pytest.fixture(scope="module")
def builds(service: BuildService, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One that passes, then one whose test fails; both have ended."""
    assert service.http.post("/apps", json={"name": APP}).status_code == 201
    assert service.http.put(f"/apps/{APP}/secrets/API_KEY", json={"value": SECRET}).status_code < 300
    developer = Developer(tmp_path_factory.mktemp("pusher") / "work", service, APP)
    ended: list[dict[str, Any]] = []
    for failure in ("", FAILURE):
        files = {
            "slipway.yml": MANIFEST,
            "app.py": "one = 1\ntwo = '<b>'\n",
            "report.sh": REPORT.format(failure=failure),
        }
        developer.commit(files)
        developer.push()
        ended.append(service.ended(f"{APP}-{len(ended) + 1}"))
    return ended


@pytest.mark.slow
def test_reports_are_kept_and_tell_no_secret(service: BuildService, builds: list[dict[str, Any]]) -> None:
    assert [build["state"] for build in builds] == ["success", "failure"], builds
    tests = service.http.get(f"/builds/{APP}-2/tests").json()["items"]
    assert [(each["id"], each["outcome"], each["step"]) for each in tests] == [
        ("divides", "failed", "unit"),
        ("adds", "passed", "unit"),
    ]
    assert (tests[0]["message"], tests[0]["output"]) == ("with ***", "by zero: ***")
    assert service.http.get(f"/builds/{APP}-2/coverage").json()["items"] == [
        {"file": "app.py", "covered": [1], "missed": [2]}
    ]
    found = service.http.get(f"/builds/{APP}-2/findings").json()["items"]
    assert [(each["rule"], each["file"], each["line"]) for each in found] == [("lint E1", "app.py", 2)]
    for part in ("", "/tests", "/log", "/findings", "/comparison"):
        assert SECRET not in service.http.get(f"/builds/{APP}-2{part}", headers=HTML).text


def test_a_file_is_shown_with_its_marks(service: BuildService, builds: list[dict[str, Any]]) -> None:
    lines = service.http.get(f"/builds/{builds[0]['id']}/source", params={"file": "app.py"}).json()["lines"]
    assert [(line["text"], line["mark"], len(line["findings"])) for line in lines] == [
        ("one = 1", "covered", 0),
        ("two = '<b>'", "missed", 1),
    ]


def test_the_failed_build_is_compared_with_the_one_before(service: BuildService, builds: list[dict[str, Any]]) -> None:
    told = service.http.get(f"/builds/{APP}-2/comparison").json()
    assert (told["before"], told["newly_failing"], told["details_known"]) == (f"{APP}-1", ["unit: divides"], True)
    assert {gate["name"]: gate["delta"] for gate in told["gates"]}["test_failures"] == 1


def test_steps_link_to_their_line_of_the_log(service: BuildService, builds: list[dict[str, Any]]) -> None:
    line = builds[1]["steps"][-1]["line"]
    assert service.log(f"{APP}-2").splitlines()[line - 1].startswith("--- test: unit")
    assert builds[1]["steps"][-1]["seconds"] > 0
    assert f"/log?line={line}#L{line}" in service.http.get(f"/builds/{APP}-2", headers=HTML).text
    assert f'<li id="L{line}">' in service.http.get(f"/builds/{APP}-2/log", headers=HTML).text


def test_filters_find_the_failed_one(service: BuildService, builds: list[dict[str, Any]]) -> None:
    commit = builds[1]["commit"][:8]
    for query in ("state=failure", f"commit={commit}"):
        found = service.http.get(f"/builds?app={APP}&{query}").json()["items"]
        assert [each["id"] for each in found] == [f"{APP}-2"]


def test_reports_lie_in_one_file_each(service: BuildService, builds: list[dict[str, Any]]) -> None:
    files: list[Path] = sorted((service.home / "reports").iterdir())
    assert [path.name for path in files] == [f"{APP}-1.json.gz", f"{APP}-2.json.gz"]
