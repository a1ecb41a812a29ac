"""Pushes over HTTP through a whole build service with a real Redis, to a stub of the deployer."""

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.build.service import BuildService, Developer

RUN = "run: {command: python app.py}\n"
PASSING = "<testsuite><testcase name='adds'/></testsuite>"
FAILING = "<testsuite><testcase name='adds'><failure/></testcase></testsuite>"
COVERAGE = (
    '<coverage line-rate="0.99"><packages><package><classes><class filename="a.py"><lines>'
    '<line number="1" hits="{hits}"/><line number="2" hits="0"/></lines></class></classes></package></packages>'
    "</coverage>"
)
_apps = itertools.count(1)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[BuildService]:
    with BuildService(tmp_path_factory.mktemp("home"), redis_server).running() as service:
        yield service


@pytest.fixture
def app() -> str:
    return f"app{next(_apps)}"


@pytest.fixture
def developer(tmp_path: Path, service: BuildService, app: str) -> Developer:
    return Developer(tmp_path / "work", service, app)


@pytest.fixture
def pushed(developer: Developer, app: str) -> Callable[..., str]:
    """Commits a manifest with one test step that writes what the test wants, pushes, and gives what git showed."""

    def push(script: str, *, report: str = "junit", gates: str = "{}", extra: str = "", **files: str) -> str:
        step = f"- {{name: test, stage: test, commands: [sh ci.sh], reports: {{{report}: out/report}}}}\n"
        manifest = f"app: {app}\nsteps:\n{step}gates: {gates}\n{RUN}{extra}"
        developer.commit({"slipway.yml": manifest, "ci.sh": script, "out/keep": "", **files})
        return developer.push()

    return push


def reporting(report: str, then: str = "") -> str:
    """A script that writes the report."""
    return f"cat > out/report <<'END'\n{report}\nEND\n{then}\n"


def events_of(database: Any, build_id: str) -> list[str]:
    """The types of a build's events, oldest first."""
    told = [fields["event"] for _, fields in database.xrange("events")]
    return [text.split('"')[3] for text in told if f'"id":"{build_id}"' in text]


def test_a_push_goes_live(service: BuildService, developer: Developer, database: Any, app: str) -> None:
    files = {"slipway.yml": f"app: {app}\nsteps:\n- {{name: hello, commands: ['echo by $CI $SLIPWAY_TOKEN.']}}\n{RUN}"}
    commit = developer.commit(files)
    shown = developer.push()
    assert "by true ." in shown
    assert f"{app}-1 success: {app}-r1 is live in production: http://{app}.localhost:3456/" in shown
    assert service.deployer.asked[-1] == (f"/apps/{app}/environments/production/releases", f"{app}-1")
    build = service.build(f"{app}-1")
    assert (build["state"], build["commit"], build["passed"], build["untested"]) == ("success", commit, True, True)
    assert build["steps"][-1]["finished_at"] <= build["sealed_at"] <= build["finished_at"]
    assert Path(build["artifact"]["built_in"], ".venv", "bin", "python").exists()
    assert not Path(build["artifact"]["built_in"], ".git").exists()
    assert events_of(database, f"{app}-1") == ["build.queued", "build.running", "build.success"]


def test_a_clone_checks_out_what_was_pushed(developer: Developer, tmp_path: Path) -> None:
    commit = developer.commit({"readme": "an app"})
    assert "main is not mapped to an environment; nothing to build" in developer.push("HEAD:main")
    developer.git("clone", "--quiet", developer.remote, str(tmp_path / "clone"))
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path / "clone", capture_output=True, text=True).stdout
    assert head.strip() == commit
    assert (tmp_path / "clone" / "readme").read_text() == "an app"


def test_a_failing_test_names_its_gate_and_nothing_is_deployed(
    pushed: Callable[..., str], service: BuildService, database: Any, app: str
) -> None:
    asked = len(service.deployer.asked)
    shown = pushed(reporting(FAILING, "echo AssertionError: 3 is not 4; exit 1"))
    assert f"{app}-1 failure: gate test_failures: 1, at most 0 (adds); gate steps: test exited with 1" in shown
    assert len(service.deployer.asked) == asked
    build = service.build(f"{app}-1")
    assert (build["state"], build["passed"], build["release"]) == ("failure", False, None)
    assert build["excerpt"].startswith("AssertionError: 3 is not 4")
    assert not (service.home / "releases" / app / f"{app}-1").exists()
    assert "live in production" in pushed(reporting(PASSING))
    recovered = service.build(f"{app}-2")
    assert (recovered["recovered"], recovered["untested"]) == (True, False)


@pytest.mark.parametrize(
    ("report", "script", "reason"),
    [
        ("junit", "cp fixture.xml out/report", "test_failures: no readable figure: out/report is a copy of a file of"),
        ("junit", reporting("<testsuite/>"), "test_failures: no readable figure: out/report holds no test"),
        ("coverage", reporting(COVERAGE.format(hits="NaN")), 'says hits="NaN", which is not a count'),
        ("sarif", "true", "gate coverage: no readable figure: no step reports it"),
    ],
    ids=["copied", "empty", "nan", "missing"],
)
@pytest.mark.slow
def test_a_report_that_proves_nothing_is_refused(
    pushed: Callable[..., str], app: str, report: str, script: str, reason: str
) -> None:
    gates = "{}" if report == "junit" else "{coverage: 40}"
    shown = pushed(script, report=report, gates=gates, **{"fixture.xml": PASSING, "out/report": PASSING})
    assert f"{app}-1 failure: gate " in shown
    assert reason in shown


def test_coverage_is_counted_from_lines(pushed: Callable[..., str], app: str) -> None:
    shown = pushed(reporting(COVERAGE.format(hits="1")), report="coverage", gates="{coverage: 50.5}")
    assert f"{app}-1 failure: gate coverage: 50, at least 50.5" in shown


@pytest.mark.parametrize(
    ("extra", "gates", "reason"),
    [
        ("", "{complexity: 30}", "gates.complexity (line 4): 30 loosens the platform's default of 15"),
        ("branches: {main: production}\n", "{}", "branches (line 6): cannot be set in the manifest"),
        ("host: [a.example]\n", "{}", "host (line 6): is not a key of the manifest; did you mean hosts?"),
    ],
)
def test_a_commit_does_not_change_its_judge(
    pushed: Callable[..., str], app: str, extra: str, gates: str, reason: str
) -> None:
    shown = pushed(reporting(PASSING), gates=gates, extra=extra)
    assert f"{app}-1 failure: gate manifest: {reason}" in shown


def test_the_minimum_of_an_app_holds_for_its_manifest(
    pushed: Callable[..., str], service: BuildService, app: str
) -> None:
    service.http.post("/apps", json={"name": app, "gates": {"coverage": 80, "complexity": 20}}).raise_for_status()
    shown = pushed(reporting(PASSING), gates="{coverage: 60, complexity: 18}")
    assert "gates.coverage (line 4): 60 loosens the app's minimum of 80" in shown
    assert "gates.complexity" not in shown
    assert "coverage: no readable figure" in pushed(reporting(PASSING))


def test_source_is_measured_as_it_was_committed(pushed: Callable[..., str], app: str) -> None:
    branches = "".join(f"    if a == {n}:\n        return {n}\n" for n in range(16))
    source = f"def many(a):\n{branches}\n"
    key = "aws = 'AKIA" + "IOSFODNN7EXAMPL3'\n"
    shown = pushed(reporting(PASSING, "rm app.py keys.py"), **{"app.py": source, "keys.py": key})
    assert "gate complexity: 17, at most 15 (app.py:1 many (17))" in shown
    assert "gate secrets: 1, at most 0 (keys.py:1 AWS Access Key)" in shown
    assert "AKIA" not in shown


def test_a_repository_that_tells_nothing_gets_the_remedy(developer: Developer) -> None:
    developer.commit({"readme": "x"})
    assert "add a slipway.yml with `run: {command: …}`" in developer.push()


def test_a_release_that_fails_fails_the_build(pushed: Callable[..., str], service: BuildService, app: str) -> None:
    service.deployer.state, service.deployer.reason = "failed", "it never answered /up"
    try:
        shown = pushed(reporting(PASSING))
    finally:
        service.deployer.state, service.deployer.reason = "live", ""
    assert f"{app}-1 failure: release {app}-r1 failed: it never answered /up" in shown


@pytest.mark.slow
def test_a_large_push_arrives_whole(developer: Developer, app: str) -> None:
    developer.commit({"slipway.yml": f"app: {app}\n{RUN}", "data": os.urandom(6 * 2**20)})
    assert f"{app}-1 success" in developer.push()


def test_a_name_that_no_app_can_have_is_refused(service: BuildService, tmp_path: Path) -> None:
    developer = Developer(tmp_path / "work", service, "Not_An_App")
    developer.commit({"a": "b"})
    assert "begins with a letter" in developer.push()
    assert not (service.home / "repositories" / "Not_An_App.git").exists()
