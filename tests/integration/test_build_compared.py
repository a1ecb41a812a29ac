"""Builds that are compared with earlier ones: trend, coverage of changed lines, new findings."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.build.analysis.code_analysis import Analysis
from services.build.analysis.exclusions import Exclusions
from services.build.builds.build import Build
from services.build.gates.gate import GateResult
from services.build.reports.metric import Measure
from shared.manifest import Gates
from shared.models import BuildState
from tests.support.build.platform import Platform

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
MANIFEST = """app: notes
steps:
- name: test
  commands: [python ci.py]
  reports: {coverage: out/coverage.xml, sarif: out/a.sarif}
gates: {coverage: 0%s}
run: {command: cat app.py}
"""
# Lines of src/app.py that hold `ran` are covered, those that hold `bad` are findings. Files are named as coverage.py
# and ruff name them.
RUNNER = """
import json, os
lines = list(enumerate(open("src/app.py").read().split("\\n"), 1))
hits = "".join(f'<line number="{n}" hits="{int("ran" in text)}"/>' for n, text in lines if text)
classes = f'<classes><class filename="app.py"><lines>{hits}</lines></class></classes>'
source = f"<sources><source>{os.getcwd()}/src</source></sources>"
report = f"<coverage>{source}<packages><package>{classes}</package></packages></coverage>"
uri = f"file://{os.getcwd()}/src/app.py"
places = [{"artifactLocation": {"uri": uri}, "region": {"startLine": n}} for n, text in lines if "bad" in text]
results = [
    {"ruleId": "B1", "message": {"text": "bad"}, "locations": [{"physicalLocation": place}]} for place in places
]
run = {"tool": {"driver": {"name": "looks"}}, "results": results}
os.makedirs("out")
open("out/coverage.xml", "w").write(report)
open("out/a.sarif", "w").write(json.dumps({"version": "2.1.0", "runs": [run]}))
"""


def files(source: str, gates: str = "") -> dict[str, str]:
    return {"slipway.yml": MANIFEST % gates, "ci.py": RUNNER, "src/app.py": source}


def gate(build: Build, name: str) -> GateResult:
    return next(gate for gate in build.gates if gate.name == name)


async def test_a_figure_is_shown_beside_that_of_the_branchs_last_build(platform: Platform) -> None:
    first = gate(await platform.build(files("ran\nran\n")), "coverage")
    assert (first.figure, first.previous, first.trend, first.offenders) == (100, None, None, [])
    build = await platform.build(files("ran\nnot\nnot\nran\n"))
    second = gate(build, "coverage")
    assert (second.figure, second.previous, second.trend) == (50, 100, "worse")
    assert [str(place) for place in second.offenders] == ["src/app.py:2 2 of 4 lines not covered"]
    assert "coverage          50, at least 0  (worse, was 100)" in platform.log(build)


async def test_changed_lines_must_be_covered_and_a_second_push_does_not_make_them_old(platform: Platform) -> None:
    asked = ", changed_coverage: 60"
    assert (await platform.build(files("ran\nnot\nnot\nnot\n"))).state is BuildState.SUCCESS
    more = "ran\nnot\nnot\nnot\nran, new\nnot, new\n"
    failed = await platform.build(files(more, asked))
    assert failed.reason == (
        "gate changed_coverage: 50, at least 60; of 2 lines changed since notes-1 "
        "(src/app.py:6 1 of 2 changed lines not covered)"
    )
    again = await platform.build(files(more + "\n", asked))
    assert "of 2 lines changed since notes-1" in again.reason, "notes-2 did not pass"
    passed = gate(await platform.build(files(more.replace("not, new", "ran, too"), asked)), "changed_coverage")
    assert (passed.passed, passed.figure) == (True, 100)
    nothing = gate(await platform.build({"README.md": "more"}), "changed_coverage")
    assert (nothing.passed, nothing.figure) == (True, 100)
    assert nothing.reason == "100, at least 60; no line that changed since notes-4 is coverable"


async def test_a_branch_without_a_build_is_compared_with_production(platform: Platform) -> None:
    assert (await platform.build(files("ran\nbad\n"))).state is BuildState.SUCCESS
    asked = ", changed_coverage: 100, new_findings: 0"
    build = await platform.build(files("ran\nbad\nran\n", asked), branch="dev")
    assert build.state is BuildState.SUCCESS, build.reason
    assert gate(build, "new_findings").reason == "0, at most 0; against notes-1"


async def test_the_first_build_of_all_has_nothing_but_new_lines_and_findings(platform: Platform) -> None:
    build = await platform.build(files("ran\nbad\n", ", changed_coverage: 60, new_findings: 0"))
    assert "changed_coverage: 50, at least 60; of 2 lines changed (no build has passed yet: all)" in build.reason
    assert "new_findings: 1, at most 0; no build of the branch has passed yet" in build.reason


async def test_a_new_finding_fails_and_keeps_failing_and_one_that_moved_does_not(platform: Platform) -> None:
    asked = ", new_findings: 0"
    assert (await platform.build(files("bad one\n"))).state is BuildState.SUCCESS
    moved = await platform.build(files("ran\nran\nbad one\n", asked))
    assert moved.state is BuildState.SUCCESS, moved.reason
    failed = await platform.build(files("bad one\nbad two\n", asked))
    assert failed.reason == "gate new_findings: 1, at most 0; against notes-2 (src/app.py:2 B1 bad)"
    again = await platform.again(failed)
    assert again.reason == failed.reason, "a finding that failed a build is not an old one in the next"
    assert (gate(again, "new_findings").previous, gate(again, "new_findings").trend) == (1, "same")


async def test_a_function_above_the_platforms_bound_is_a_new_finding_where_the_app_allows_it(
    platform: Platform,
) -> None:
    app = await platform.store.app("notes")
    await platform.store.put_app(app.model_copy(update={"gates": app.gates.model_copy(update={"complexity": 99})}))
    assert (await platform.build(files("ran\n"))).state is BuildState.SUCCESS
    function = "def f(x):\n" + "".join(f"    if x == {n}: return\n" for n in range(20))
    build = await platform.build(files(function, ", new_findings: 0"))
    assert build.reason == "gate new_findings: 1, at most 0; against notes-1 (src/app.py:1 f (21))"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"src/app.py": "ran\nnot\n", "model.bin": "\0" * (65 * 2**20)}, "50, at least 60; of 2 lines changed"),
        ({f"text{number}": "x" * (9 * 2**20) for number in range(8)}, "is larger than 64 MB; leave out of the commit"),
        ({"src/app.py": "ran\n" + "\n" * (10 * 2**20)}, "src/app.py is larger than 10 MB, and not compared; split it"),
    ],
)
async def test_what_is_too_much_to_be_compared_has_no_figure(
    platform: Platform, changes: dict[str, str], reason: str
) -> None:
    platform.context = replace(platform.context, analysis=NothingFound({}))
    build = await platform.build(files("ran\n", ", changed_coverage: 60") | changes)
    assert build.state is BuildState.FAILURE
    assert reason in gate(build, "changed_coverage").reason
    assert (gate(build, "changed_coverage").figure is None) == ("60" not in reason)


class NothingFound(Analysis):
    """The tools take minutes for these texts."""

    async def measure(self, source: Path, exclusions: Exclusions, gates: Gates | None = None) -> dict[str, Measure]:
        return {name: Measure(0) for name in ("complexity", "function_length", "secrets")}
