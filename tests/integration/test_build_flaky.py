"""Flaky tests through whole builds: run again, quarantined, listed; and what is not let pass."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from services.build.builds.build import Build
from services.build.gates.flaky import Quarantine
from shared.clock import now
from shared.manifest import Flaky
from shared.models import BuildState
from tests.support.build.executors import Engine, found_engine
from tests.support.build.platform import Platform

pytestmark = pytest.mark.anyio
MANIFEST = """app: notes
steps:
- {name: test, stage: test, commands: [%s], reports: {junit: out/junit.xml}}
- {name: after, stage: analysis, commands: [echo reached]}
%s
run: {command: cat app.txt}
"""
# A runner of tests that are named in files: those in $1 fail in the first run of a build, those in $2 in the second.
RUNNER = """
printf 'lately: %s\\n' "$(echo "$SLIPWAY_FAILED_LATELY" | tr '\\n' ' ')"
fails=$1
[ -e "$HOME/ran" ] && fails=$2
touch "$HOME/ran"
mkdir -p out
{
  echo '<testsuite>'
  for test in a b c; do
    echo "<testcase classname='t' name='$test'>"
    case $fails in *$test*) echo '<failure message="no"/>';; esac
    echo '</testcase>'
  done
  echo '</testsuite>'
} > out/junit.xml
[ -z "$fails" ]
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield from found_engine()


def files(first: str, second: str, *, more: str = "") -> dict[str, str]:
    """An app whose tests `first` fail in the first run of a build, and `second` in the second."""
    return {"slipway.yml": MANIFEST % (f"sh ci.sh '{first}' '{second}'", more), "ci.sh": RUNNER, "app.txt": ""}


def verdict(build: Build) -> str:
    return next(gate.reason for gate in build.gates if gate.name == "test_failures")


def steps(build: Build) -> list[tuple[str, str]]:
    return [(step.name, step.state) for step in build.steps]


@pytest.mark.slow
async def test_a_test_that_passes_in_the_second_run_is_quarantined_and_then_excused_and_always_listed(
    everywhere: Platform,
) -> None:
    platform = everywhere
    first = await platform.build(files("a", ""))
    assert steps(first) == [("test", "failure"), ("test (again)", "success"), ("after", "success")]
    assert (first.state, first.excerpt) == (BuildState.SUCCESS, "")
    assert first.reason.endswith("; passed with flaky tests: t::a")
    assert verdict(first).startswith("0, at most 0; passed with 1 flaky test: t::a, failed, then passed, quarantined")
    assert [(each.test, each.step) for each in first.flaky] == [("t::a", "test")]
    assert "run again, to see whether this is flaky: t::a" in platform.log(first)

    second = await platform.build(files("a", "a"))
    assert steps(second) == [("test", "failure"), ("test (again)", "success"), ("after", "success")]
    assert second.steps[1].reason == "exited with 1, for flaky tests only: t::a"
    assert second.state is BuildState.SUCCESS
    assert "t::a, failed in both runs, quarantined until" in verdict(second)
    assert "lately: t::a" in platform.log(second)

    await platform.history.drop_quarantine("notes", "t::a")
    third = await platform.build(files("a", "a"))
    assert (third.state, third.flaky) == (BuildState.FAILURE, [])
    assert third.reason == "gate test_failures: 1, at most 0 (t::a: no); gate steps: test exited with 1"


async def test_another_build_of_the_same_commit_tells_too(platform: Platform) -> None:
    app = files("a", "a")
    app["ci.sh"] = app["ci.sh"].replace("mkdir", '[ "$CI_PIPELINE_NUMBER" = 2 ] && fails=\nmkdir')
    failed = await platform.build(app)
    assert (failed.state, failed.flaky) == (BuildState.FAILURE, [])
    passed = await platform.again(failed)
    assert steps(passed) == [("test", "success"), ("after", "success")]
    assert "passed with 1 flaky test: t::a, passed here, but not in an earlier build of this commit" in verdict(passed)
    assert [each.reason for each in (await platform.history.quarantines("notes")).values()] == [
        "failed and passed on one commit, last in notes-2"
    ]


@pytest.mark.parametrize(
    ("app", "reason", "ran_again"),
    [
        (files("ab", "b"), "gate test_failures: 1, at most 0; beside 1 flaky test: t::a", True),
        (files("a", "", more="flaky: {reruns: 0}"), "gate test_failures: 1, at most 0 (t::a: no)", False),
        (files("ab", "", more="flaky: {at_most: 1}"), "gate test_failures: 2, at most 0 (t::a: no, t::b: no)", False),
        (files("a", "", more="flaky: {reruns: 2}"), "gate manifest: flaky.reruns", False),
        (
            {**files("a", ""), "app.py": "def f(x):\n" + "".join(f"    if x == {n}: return\n" for n in range(20))},
            "gate test_failures: 1, at most 0 (t::a: no)",
            False,
        ),
    ],
    ids=["one fails in both runs", "turned off", "too many", "out of range", "another gate says no anyway"],
)
@pytest.mark.slow
async def test_what_is_not_let_pass(platform: Platform, app: dict[str, str], reason: str, ran_again: bool) -> None:
    build = await platform.build(app)
    assert build.state is BuildState.FAILURE
    assert build.reason.startswith(reason)
    assert ("test (again)" in [step.name for step in build.steps]) is ran_again


async def test_an_app_may_refuse_second_runs_and_its_manifest_cannot_allow_them(platform: Platform) -> None:
    app = await platform.store.app("notes")
    await platform.store.put_app(app.model_copy(update={"flaky": Flaky(reruns=0)}))
    build = await platform.build(files("a", "", more="flaky: {reruns: 1}"))
    assert "flaky.reruns (line 5): 1 loosens the app's minimum of 0" in build.reason


@pytest.mark.parametrize(
    ("instead", "by", "failure"),
    [
        ("'a' 'a'", "'a' 'a', echo checked", "exited with 1"),
        ("'a' 'a'", "'a' 'a' || kill -9 $$", "was ended by SIGKILL"),
        ("out/junit.xml}", "out/junit.xml, coverage: out/none.xml}", "exited with 1"),
    ],
    ids=["a command was not run", "killed", "a report is missing"],
)
@pytest.mark.slow
async def test_a_step_that_failed_for_more_than_a_flaky_test_is_not_let_pass(
    platform: Platform, instead: str, by: str, failure: str
) -> None:
    known = Quarantine(test="t::a", step="test", until=now() + timedelta(days=1), reason="", since=now())
    await platform.history.put_quarantine("notes", known)
    app = files("a", "a")
    app["slipway.yml"] = app["slipway.yml"].replace(instead, by)
    build = await platform.build(app)
    assert build.state is BuildState.FAILURE
    assert build.reason.endswith(f"gate steps: test {failure}")
    assert [each.test for each in build.flaky] == ["t::a"]
