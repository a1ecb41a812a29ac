"""Builds of apps that the default gates would refuse, and the ways out that the verdicts name."""

from typing import Any

import pytest

from services.build.builds.build import Build
from services.build.gates.gate import GateResult
from shared.models import BuildState
from tests.support.build.platform import Platform

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
APP = {"slipway.yml": "app: notes\nrun: {command: cat app.py}\n", "app.py": "x = 1\n"}


def function(name: str, branches: int = 20) -> str:
    return f"def {name}(x):\n" + "".join(f"    if x == {n}: return\n" for n in range(branches))


def gate(build: Build, name: str) -> GateResult:
    return next(gate for gate in build.gates if gate.name == name)


async def change(platform: Platform, **changes: Any) -> None:
    app = await platform.store.app("notes")
    await platform.store.put_app(app.model_copy(update=changes))


async def test_a_gate_that_failed_says_its_remedy_in_the_log_and_the_verdict(platform: Platform) -> None:
    build = await platform.build(APP | {"app.py": function("load")})
    remedy = 'or allow more: PUT /apps/notes {"gates": {"complexity": 21}}'
    assert gate(build, "complexity").remedy.endswith(remedy)
    assert f"              remedy: {gate(build, 'complexity').remedy}\n" in platform.log(build)
    assert gate(build, "function_length").remedy == ""


async def test_a_vendored_file_is_left_out_by_convention_and_the_verdict_says_so(platform: Platform) -> None:
    build = await platform.build(APP | {"vendor/a.py": function("load")})
    assert build.state is BuildState.SUCCESS, build.reason
    assert gate(build, "complexity").reason == "0, at most 15; left out: 1 file, vendor/"
    assert gate(build, "complexity").left_out == ["vendor/: 1 file, by convention"]


@pytest.mark.parametrize(
    "declared",
    [
        {".gitattributes": "lib/** linguist-vendored\n"},
        {"slipway.yml": APP["slipway.yml"] + "exclude: [lib/]\n"},
    ],
)
async def test_what_a_commit_declares_counts_for_the_next_once_it_has_passed(
    platform: Platform, declared: dict[str, str]
) -> None:
    judge_of_its_own = await platform.build(APP | declared | {"lib/a.py": function("load")})
    assert judge_of_its_own.reason.startswith("gate complexity: 21")
    again = await platform.build({"lib/b.py": "\n"})
    assert again.reason.startswith("gate complexity: 21"), "a commit that failed declares nothing"
    assert (await platform.build({"lib/a.py": "\n"})).state is BuildState.SUCCESS
    later = await platform.build({"lib/a.py": function("load")})
    assert later.state is BuildState.SUCCESS, later.reason
    assert gate(later, "complexity").left_out[0].endswith("declared in notes-3")


async def test_what_is_set_on_the_app_counts_at_once_and_nothing_is_reused_against_it(platform: Platform) -> None:
    await change(platform, exclude=["lib/"])
    build = await platform.build(APP | {"lib/a.py": function("load")})
    assert build.state is BuildState.SUCCESS, build.reason
    await change(platform, exclude=[])
    again = await platform.again(build, fresh=False)
    assert again.reason.startswith("gate complexity: 21")


async def test_what_a_first_commit_has_is_known_once_a_person_says_so_and_only_shrinks(platform: Platform) -> None:
    old = APP | {"a.py": function("load") + function("save", 30)}
    refused = await platform.build(old)
    assert 'PUT /apps/notes {"baseline": true}' in gate(refused, "complexity").remedy
    await change(platform, baseline=True)
    first = await platform.build({"b.py": "x = 2\n"})
    assert first.state is BuildState.SUCCESS, first.reason
    assert gate(first, "complexity").reason == "0, at most 15; 2 known findings do not count"
    grown = await platform.build({"a.py": function("load") + function("save", 31)})
    assert grown.reason.startswith(
        "gate complexity: 32, at most 15; 1 known finding does not count (a.py:22 save (32))"
    )
    smaller = await platform.build({"a.py": function("load", 3) + function("save", 25)})
    assert smaller.state is BuildState.SUCCESS, smaller.reason
    back = await platform.build({"a.py": function("load") + function("save", 25)})
    assert back.reason.startswith("gate complexity: 21"), "what was repaired is known no more"
    await change(platform, baseline=False)
    without = await platform.build({"a.py": function("load", 3) + function("save", 25)})
    assert without.reason.startswith("gate complexity: 26")


async def test_another_branch_knows_no_more_than_the_first(platform: Platform) -> None:
    await change(platform, baseline=True)
    first = await platform.build(APP | {"a.py": function("load")}, branch="dev")
    assert first.state is BuildState.SUCCESS, first.reason
    build = await platform.build({"b.py": function("other")})
    assert build.reason.startswith("gate complexity: 21"), build.reason


async def test_a_first_commits_findings_are_not_new_but_its_secrets_count(platform: Platform) -> None:
    await change(platform, baseline=True)
    asked = {"slipway.yml": APP["slipway.yml"] + "gates: {new_findings: 0, complexity: 5}\n"}
    first = await platform.build(APP | asked | {"a.py": function("load") + function("small", 7)})
    assert first.state is BuildState.SUCCESS, first.reason
    await platform.history.forget("notes")
    key = "AKIA" + "Q3EGRIVUH7DLTSRN"
    second = await platform.build({"c.py": f'key = "{key}"\n'})
    assert {result.name for result in second.gates if not result.passed} == {"secrets", "new_findings"}
