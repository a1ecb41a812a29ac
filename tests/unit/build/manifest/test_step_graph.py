"""Steps are selected and ordered by their graph, and faults in it are found."""

from typing import Any

import pytest

from services.build.manifest import step_graph
from services.build.manifest.manifest_parser import BadManifest, parse_manifest
from shared.manifest import Step


def step(name: str, stage: str = "build", **more: Any) -> Step:
    return Step.model_validate({"name": name, "stage": stage, "commands": ["true"], **more})


def test_without_depends_on_each_waits_for_those_before_it() -> None:
    steps = [step("t", "test"), step("a"), step("b")]
    assert step_graph.waits_for(steps) == {"a": set(), "b": {"a"}, "t": {"a", "b"}}
    assert step_graph.concurrent_pairs(steps) == []


def test_depends_on_waits_for_these_only_and_stages_stay_barriers() -> None:
    steps = [step("a"), step("b", depends_on=[]), step("c", depends_on=["a"]), step("t", "test", depends_on=[])]
    assert step_graph.waits_for(steps) == {"a": set(), "b": set(), "c": {"a"}, "t": {"a", "b", "c"}}
    assert [(one.name, other.name) for one, other in step_graph.concurrent_pairs(steps)] == [("a", "b"), ("b", "c")]


def test_a_step_that_was_left_out_is_not_waited_for() -> None:
    steps = [step("a", when={"branch": "release"}), step("b", depends_on=["a"])]
    assert step_graph.waits_for(step_graph.selected(steps, "dev", None)) == {"b": frozenset()}


@pytest.mark.parametrize(
    ("when", "branch", "environment", "runs"),
    [
        ({}, None, None, True),
        ({"branch": "release"}, "release", None, True),
        ({"branch": "release"}, "releases", None, False),
        ({"branch": "release"}, None, None, False),
        ({"branch": ["dev", "feature/*"]}, "feature/a", None, True),
        ({"branch": "feature/*"}, "feature/a/b", None, False),
        ({"branch": "feature/**"}, "feature/a/b", None, True),
        ({"branch": "**/b"}, "feature/a/b", None, True),
        ({"branch": "v?"}, "v1", None, True),
        ({"branch": "v?"}, "v", None, False),
        ({"branch": "a.b"}, "axb", None, False),
        ({"branch": "a**" * 60 + "b"}, "a" * 190, None, False),
        ({"environment": "production"}, "release", "production", True),
        ({"environment": "production"}, "dev", "canary", False),
        ({"environment": ["production", "canary"]}, "x", None, False),
        ({"branch": "release", "environment": "canary"}, "release", "production", False),
    ],
)
def test_when(when: dict[str, Any], branch: str | None, environment: str | None, runs: bool) -> None:
    given = step("a", when=when)
    assert bool(step_graph.selected([given], branch, environment)) is runs
    assert (step_graph.reason_to_skip(given, branch, environment) == "") is runs


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        (
            "- {name: a, commands: [x], depends_on: [a]}",
            "steps.0.depends_on.0 (line 3): a would wait for itself; remove",
        ),
        (
            "- {name: lint, commands: [x]}\n- name: b\n  commands: [x]\n  depends_on:\n  - lnit",
            "steps.1.depends_on.0 (line 7): no step is named lnit; did you mean lint?",
        ),
        (
            "- {name: a, commands: [x], depends_on: [t]}\n- {name: t, stage: test, commands: [x]}",
            "steps.0.depends_on.0 (line 3): t is of the stage test, which comes after build; move one",
        ),
        (
            "- {name: a, commands: [x], depends_on: [b]}\n- {name: b, commands: [x]}",
            "steps.0.depends_on (line 3): a, b wait for each other; take one out of a depends_on, or give",
        ),
        (
            "- {name: a, commands: [x], depends_on: [c]}\n- {name: b, commands: [x]}\n- {name: c, commands: [x]}",
            "steps.0.depends_on (line 3): a, b, c wait for each other; take one out of a depends_on, or give",
        ),
        (
            "- {name: a, commands: [x], reports: {junit: j}}\n"
            "- {name: b, commands: [x], depends_on: [], reports: {junit: j}}",
            "steps.1.reports.junit (line 4): a writes j too, and may run at the same time; give each its own path",
        ),
        (
            "- {name: a, commands: [x], depends_no: []}",
            "steps.0.depends_no (line 3): is not a key of the manifest; did",
        ),
        (
            "- name: a\n  commands: [x]\n  services:\n  - {name: db, imgae: x}",
            "steps.0.services.0.imgae (line 6): is not a key of the manifest; did you mean image?",
        ),
        (
            "- name: a\n  commands: [x]\n  services: [{name: db}, {name: db}]",
            "steps.0.services (line 5): two services are named db; give each its own name",
        ),
        ("- {name: a, commands: [x], failure: never}", "steps.0.failure (line 3): Input should be 'fail' or 'ignore'"),
    ],
)
def test_a_fault_names_its_line_and_the_remedy(steps: str, fault: str) -> None:
    with pytest.raises(BadManifest) as caught:
        parse_manifest(f"app: notes\nsteps:\n{steps}\n".encode(), "notes")
    assert fault in str(caught.value)


def test_a_service_must_be_one_that_this_platform_can_run() -> None:
    steps = [step("a", services=[{"name": "db", "image": "postgres:17"}, {"name": "web", "command": "serve"}])]
    (as_process,) = step_graph.service_faults(steps, containers=False)
    assert str(as_process).startswith("steps.0.services.0: db needs containers, and this platform runs steps as proc")
    (in_container,) = step_graph.service_faults(steps, containers=True)
    assert str(in_container).startswith("steps.0.services.1: web has no image")


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("out/*.xml", "out/a.xml", True),
        (["b.xml", "out/a.xml"], "out/**", True),
        ("out/*.xml", ["out/*.xml"], True),
        ("out/a/*.xml", "out/b/*.xml", False),
        (["a.xml"], ["b.xml"], False),
    ],
)
def test_steps_beside_each_other_write_no_reports_that_the_other_reads(one: Any, other: Any, meet: bool) -> None:
    steps = [step("a", reports={"junit": one}), step("b", depends_on=[], reports={"junit": other})]
    assert bool(step_graph.faults(steps)) is meet
