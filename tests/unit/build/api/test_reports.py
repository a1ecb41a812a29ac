"""The history, the log by line, reports and comparison over the API, as JSON and as pages."""

import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.build.api.builds import builds_router
from services.build.api.page_views import BuildPages
from services.build.api.reports import reports_router
from services.build.builds import build as domain
from services.build.builds.build import Build, Expired
from services.build.builds.build_store import BuildStore
from services.build.config import Settings
from services.build.gates.gate import GateResult
from services.build.gates.report_archive import ReportFiles
from services.build.gates.report_record import BuildReport, FileCoverage, RecordedFinding, TestRun
from services.build.git.repository import Repositories
from services.build.logs.build_log import BuildLogs
from shared.models import BuildState
from tests.support.build.api import TOKEN, client_of
from tests.support.build.builds import AT, build
from tests.support.build.service import git_environment

pytestmark = pytest.mark.anyio
HTML = {"Accept": "text/html,*/*"}
FAILED = TestRun(step="unit", id="t::<b>", outcome="failed", seconds=1, message="1 != 2", output="<script>trace")
REPORT = BuildReport(
    tests=[FAILED, TestRun(step="unit", id="t::good", outcome="passed")],
    coverage=[FileCoverage(file="src/a.py", covered=[1], missed=[2])],
    findings=[RecordedFinding(rule="ruff E1", file="src/a.py", line=2, message="<i>bad")],
    cut=["5 of 9 tests"],
)
FILES = {"src/a.py": b"one\n<two>\n", "blob": b"a\0b", "large": b"x" * (2**20 + 1)}


def _repository(folder: Path) -> str:
    """Makes a repository of the app notes, and returns the id of its commit."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, env=git_environment(), capture_output=True, check=True)
        return done.stdout.decode().strip()

    folder.mkdir(parents=True)
    git("init", "--quiet", ".")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "link").symlink_to("/etc/passwd")
    git("add", "--all")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "x")
    (folder / ".git").rename(folder.parent / "notes.git")
    return subprocess.run(
        ["git", "--git-dir", str(folder.parent / "notes.git"), "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
async def client(store: BuildStore, redis: Redis, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Two failed builds of one branch, `notes-1` and `notes-2`; the second has a report."""
    reports, repositories = ReportFiles(tmp_path / "reports"), Repositories(tmp_path / "git", "/usr/bin:/bin")
    commit = _repository(tmp_path / "git" / "work")
    for number in (1, 2):
        await store.add(build(number, commit=commit), is_head=False)
        gates = [GateResult(name="coverage", passed=True, figure=number * 10.0, unit="%")]

        def change(stored: Build, gates: list[GateResult] = gates) -> Build:
            judged = domain.with_changes(domain.started(stored, AT), gates=gates)
            return domain.ended(judged, BuildState.FAILURE, "no", AT + timedelta(seconds=3))

        await store.update(f"notes-{number}", change)
    reports.write("notes-1", BuildReport(tests=[TestRun(step="unit", id="t::<b>", outcome="passed")]))
    reports.write("notes-2", REPORT)
    settings = Settings(home=tmp_path, token=TOKEN)
    pages = BuildPages(BuildLogs(tmp_path / "logs"), settings)
    routers = [builds_router(store, pages), reports_router(store, reports, repositories, pages)]
    async with client_of(routers, settings, redis) as client:
        yield client


async def got(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_builds_are_filtered_and_paged(client: httpx.AsyncClient, store: BuildStore) -> None:
    await store.add(build(3, branch="dev"), is_head=False)
    await store.add(build(1, app="other"), is_head=False)
    every = await got(client, "/builds")
    assert [each["id"] for each in every["items"]] == ["other-1", "notes-3", "notes-2", "notes-1"]
    assert every["next"] is None
    failed = await got(client, "/builds?state=failure&state=queued&app=notes&branch=release&limit=1")
    assert [each["id"] for each in failed["items"]] == ["notes-2"]
    more = await got(client, f"/apps/notes/builds?state=failure&limit=1&cursor={failed['next']}")
    assert ([each["id"] for each in more["items"]], more["next"]) == (["notes-1"], None)
    emptied = await got(client, "/builds?app=&branch=&environment=&commit=")
    assert len(emptied["items"]) == 4


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=great", "state.0"),
        ("environment=moon", "environment"),
        ("commit=xyz", "commit"),
        ("cursor=-1", "cursor"),
    ],
)
async def test_a_wrong_filter_names_its_field(client: httpx.AsyncClient, query: str, field: str) -> None:
    for path in ("/builds", "/apps/notes/builds", "/"):
        answer = await client.get(f"{path}?{query}")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == f"query.{field}"


async def test_the_form_keeps_its_values(client: httpx.AsyncClient) -> None:
    page = (await client.get("/?branch=%22%3Ex&state=failure&environment=canary&commit=AB", headers=HTML)).text
    for kept in ('value="&#34;&gt;x"', 'value="failure" checked', "<option selected>canary", 'value="ab"'):
        assert kept in page
    assert "No build matches." in page


async def test_tests_coverage_and_findings_are_told(client: httpx.AsyncClient) -> None:
    tests = await got(client, "/builds/notes-2/tests")
    assert (tests["known"], tests["cut"]) == (True, ["5 of 9 tests"])
    assert [each["outcome"] for each in tests["items"]] == ["failed", "passed"]
    coverage = await got(client, "/builds/notes-2/coverage")
    assert coverage["items"] == [{"file": "src/a.py", "covered": [1], "missed": [2]}]
    assert (await got(client, "/builds/notes-2/findings"))["items"][0]["rule"] == "ruff E1"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("tests", ["<details open>", "&lt;script&gt;trace", "t::&lt;b&gt;", "5 of 9 tests"]),
        ("coverage", ["/builds/notes-2/source?file=src/a.py#L2", "50 %"]),
        ("findings", ["/builds/notes-2/source?file=src/a.py#L2", "&lt;i&gt;bad"]),
        ("source?file=src/a.py", ['<li id="L2" class="missed">', "&lt;two&gt;", "ruff E1: &lt;i&gt;bad"]),
        ("source?file=blob", ["binary"]),
        ("source?file=large", ["larger than 1 MiB"]),
        ("source?file=link", ["or a link"]),
        ("comparison", ["notes-1", "Tests that fail now", "unit: t::&lt;b&gt;", "+10"]),
    ],
)
async def test_pages_show_it_escaped(client: httpx.AsyncClient, path: str, shown: list[str]) -> None:
    answer = await client.get(f"/builds/notes-2/{path}", headers=HTML)
    assert answer.status_code == 200
    assert [part for part in shown if part not in answer.text] == []


async def test_a_comparison_is_with_the_build_before_or_one_that_is_named(
    client: httpx.AsyncClient, store: BuildStore
) -> None:
    comparison = await got(client, "/builds/notes-2/comparison")
    assert (comparison["before"], comparison["gates"][0]["delta"], comparison["newly_failing"]) == (
        "notes-1",
        10,
        ["unit: t::<b>"],
    )
    back = await got(client, "/builds/notes-1/comparison?with=notes-2")
    assert (back["before"], back["fixed"]) == ("notes-2", ["unit: t::<b>"])
    assert (await client.get("/builds/notes-1/comparison")).status_code == 404
    assert "No build of the same branch" in (await client.get("/builds/notes-1/comparison", headers=HTML)).text
    await store.add(build(1, app="other"), is_head=False)
    other = await client.get("/builds/notes-1/comparison?with=other-1")
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "with")


async def test_what_is_not_there_is_said(client: httpx.AsyncClient, store: BuildStore) -> None:
    assert (await client.get("/builds/notes-2/source?file=nope")).status_code == 404
    await store.add(build(3), is_head=False)
    assert (await got(client, "/builds/notes-3/tests"))["known"] is False
    assert (await client.get("/builds/notes-3/source?file=a")).status_code == 404  # no such commit
    await store.note("notes-2", Expired(log=AT))
    gone = await client.get("/builds/notes-2/tests")
    assert (gone.status_code, "deleted by the retention policy" in gone.json()["detail"]) == (410, True)


async def test_nothing_of_it_is_public(client: httpx.AsyncClient) -> None:
    for path in (
        "/builds",
        *(f"/builds/notes-2/{part}" for part in ("tests", "coverage", "source?file=a", "comparison")),
    ):
        assert (await client.get(path, headers={"Authorization": ""})).status_code == 401
