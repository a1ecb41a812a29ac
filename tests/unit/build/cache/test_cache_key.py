"""The cache key is the same exactly if the verdict must be the same."""

from datetime import timedelta
from typing import Any

import pytest

from services.build.builds.app import App
from services.build.builds.build import Expired
from services.build.cache.cache_key import judgement_key, may_be_reused, not_reused, reused
from services.build.gates.baseline import Baseline
from services.build.gates.flaky import FlakyTest
from services.build.gates.known_findings import KnownFindings
from shared.manifest import Flaky, Gates, Manifest, Stage
from shared.models import Artifact, BuildState, Environment
from tests.support.build.builds import AT, build

ARTIFACT = Artifact(kind="directory", ref="/a", digest="sha256:1")


def manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate(
        {"app": "notes", "steps": [{"name": "test", "commands": ["true"]}], "run": {"command": "x"}, **changes}
    )


def app(**changes: Any) -> App:
    return App(name="notes", branches={}, created_at=AT, **changes)


def baseline(commit: str = "b" * 40, **findings: int) -> Baseline:
    return Baseline(build="notes-0", commit=commit, findings=findings)


def key(**changes: Any) -> str:
    given: dict[str, Any] = {
        "build": build(1, commit="a" * 40),
        "app": app(),
        "manifest": manifest(),
        "baseline": baseline(),
        "known": None,
        "images": False,
        "asks_branch": False,
    }
    return judgement_key(**{**given, **changes})


@pytest.mark.parametrize(
    "other",
    [
        {"build": build(2, commit="a" * 40, branch="dev", environment=Environment.CANARY)},
        {"app": app(source=None).model_copy(update={"branches": {"main": Environment.PRODUCTION}})},
        {"app": app(gates=Gates(complexity=15))},  # the platform's own value, said aloud
        {"baseline": None},  # no gate compares
        {"baseline": baseline("c" * 40, other=1)},
    ],
)
def test_what_does_not_decide_a_verdict_is_not_in_its_key(other: dict[str, Any]) -> None:
    assert key(**other) == key()


@pytest.mark.parametrize(
    "other",
    [
        {"build": build(1, commit="c" * 40)},
        {"app": app(gates=Gates(coverage=1))},
        {"app": app(flaky=Flaky(reruns=0))},
        {"manifest": manifest(gates={"complexity": 3})},
        {"manifest": manifest(flaky={"at_most": 1})},
        {"manifest": manifest(steps=[])},
        {"manifest": manifest(steps=[{"name": "test", "commands": ["true"], "secrets": ["TOKEN"]}])},
        {"manifest": manifest(run={"command": "y"})},
        {"images": True},
        {"app": app(exclude=["lib/"])},
        {"baseline": baseline().model_copy(update={"exclude": ["lib/"]})},
        {"known": KnownFindings(None)},
        {"known": KnownFindings({})},
    ],
)
def test_what_decides_a_verdict_is_in_its_key(other: dict[str, Any]) -> None:
    assert key(**other) != key()


def test_the_branch_decides_where_a_step_may_ask_for_it() -> None:
    dev = build(2, commit="a" * 40, branch="dev")
    assert key(asks_branch=True) == key(asks_branch=True, build=build(2, commit="a" * 40))
    assert key(asks_branch=True, build=dev) != key(asks_branch=True)
    assert key(build=dev) == key()


@pytest.mark.parametrize(
    ("gate", "same", "different"),
    [
        ("changed_coverage", baseline(new=1), baseline("c" * 40)),
        ("new_findings", baseline("c" * 40), baseline(new=1)),
        ("new_findings", baseline("c" * 40), None),
    ],
)
def test_a_gate_that_compares_has_what_it_compares_with_in_the_key(
    gate: str, same: Baseline, different: Baseline | None
) -> None:
    asked = manifest(gates={gate: 0})
    assert key(manifest=asked, baseline=same) == key(manifest=asked)
    assert key(manifest=asked, baseline=different) != key(manifest=asked)


def test_only_what_passed_may_be_reused_and_flaky_tests_only_while_they_are_quarantined() -> None:
    flaky = FlakyTest(test="a", step="test", until=AT + timedelta(days=1), what="failed once")
    passed = build(1, state=BuildState.RUNNING, passed=True, artifact=ARTIFACT, flaky=[flaky])
    assert may_be_reused(passed, AT)
    assert not may_be_reused(passed, AT + timedelta(days=1))
    assert not may_be_reused(build(1, artifact=ARTIFACT), AT)
    assert not may_be_reused(build(1, passed=True), AT)
    assert not may_be_reused(passed.model_copy(update={"expired": Expired(artifact=AT)}), AT)


def test_what_was_reused_and_is_lost_leaves_no_trace_but_that_it_is_built_anew() -> None:
    earlier = build(1, passed=True, artifact=ARTIFACT, untested=True)
    running = build(2, state=BuildState.RUNNING, stage=Stage.BUILD)
    took = reused(running, earlier, AT)
    assert (took.passed, took.artifact, took.reused, took.untested, took.deploying) == (
        True, ARTIFACT, "notes-1", True, True,
    )  # fmt: skip
    lost = not_reused(took)
    assert (lost.passed, lost.artifact, lost.reused, lost.fresh, lost.deploying) == (False, None, None, True, False)
