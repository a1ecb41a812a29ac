"""A build of another branch goes to production only if it has run what production asks for."""

from typing import Any

import pytest

from services.build.builds.app import App, new_app
from services.build.gates.gate import judge
from services.build.manifest.promotion import promotion_refusal
from services.build.reports.metric import Measure
from shared.manifest import Gates, Manifest
from shared.models import BuildState, Environment
from tests.support.build.builds import AT, build

CANARY, PRODUCTION = Environment.CANARY, Environment.PRODUCTION
APP = new_app("notes", AT)


def refusal(when: dict[str, Any], *, app: App = APP, **changes: Any) -> str:
    steps = [{"name": "unit", "commands": ["true"]}, {"name": "load", "commands": ["sh load.sh"], "when": when}]
    manifest = Manifest.model_validate({"app": "notes", "steps": steps})
    given: dict[str, Any] = {"branch": "dev", "environment": CANARY, "state": BuildState.SUCCESS, **changes}
    return promotion_refusal(build(7, manifest=manifest, **given), app)


INSTEAD = (
    "Instead of promoting it, have its commit judged as one of release, which releases it if it passes: "
    f'POST /apps/notes/builds {{"branch": "release", "commit": "{7:040x}"}}; or push its commit to release, unless '
    f"that has others: git push <remote> {7:040x}:refs/heads/release"
)


def test_the_refusal_names_the_step_and_the_call_that_runs_it() -> None:
    assert refusal({"branch": "release"}) == (
        "notes-7 has not run steps that production asks for: load runs on release only, this is dev. " + INSTEAD
    )


def test_gates_that_the_app_has_got_since_are_asked_for_too() -> None:
    app = APP.model_copy(update={"gates": Gates(coverage=80, complexity=20, findings=0)})
    judged = [
        judge("coverage", 70, Measure(79.5)),
        judge("complexity", 20, Measure(20)),
        judge("secrets", 0, Measure(0)),
    ]
    assert refusal({}, app=app, gates=judged) == (
        "notes-7 does not pass gates that the app has got since (coverage: 79.5, at least 80; findings: no readable "
        "figure: the build was not judged by this gate). " + INSTEAD
    )
    both = refusal({"branch": "release"}, app=app, gates=judged)
    assert "this is dev, and does not pass gates" in both
    better = [
        judge(name, 0, Measure(figure)) for name, figure in (("coverage", 80), ("complexity", 3), ("findings", 0))
    ]
    assert refusal({}, app=app, gates=better) == ""


@pytest.mark.parametrize(
    ("when", "lacks"),
    [
        ({}, False),
        ({"environment": "production"}, True),
        ({"environment": ["production", "canary"]}, False),
        ({"branch": ["dev", "release"]}, False),
        ({"branch": "rel*"}, True),
        ({"branch": "dev"}, False),
        ({"environment": "canary"}, False),
        ({"branch": "release", "environment": "production"}, True),
    ],
)
def test_a_step_counts_if_a_branch_of_production_would_run_it(when: dict[str, Any], lacks: bool) -> None:
    assert bool(refusal(when)) is lacks


def test_what_one_of_productions_branches_asks_for_suffices() -> None:
    app = APP.model_copy(update={"branches": {"release": PRODUCTION, "hotfix": PRODUCTION, "dev": CANARY}})
    assert refusal({"branch": "release"}, app=app) == ""
    assert "runs on release, hotfix only" in refusal({"branch": ["release", "hotfix"]}, app=app)


def test_builds_for_production_and_of_no_branch() -> None:
    when = {"environment": "production"}
    assert refusal(when, branch="release", environment=PRODUCTION) == ""
    assert refusal(when, branch="release", environment=None, door=True) == "", "judged before its push"
    assert "load runs for production only, this goes to no environment" in refusal(when, branch=None, environment=None)
    assert promotion_refusal(build(7, branch="dev", environment=CANARY), APP) == "", "it has not read its manifest yet"
