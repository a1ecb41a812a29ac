"""A forge gets a status for each stage of a build, in the form that it wants."""

from typing import Any

import pytest

from services.build.builds.build import Build, StepRun
from services.build.builds.status import Status, StatusVerdict, statuses_of
from services.build.forges.forge_status import status_request
from services.build.gates.gate import GateResult
from services.build.git.remote_source import Forge, Source
from shared.manifest import Stage
from shared.models import BuildState
from tests.support.build.builds import AT, build

S, V = BuildState, StatusVerdict
GATES = [
    GateResult(name="coverage", passed=True, reason="80, at least 70"),
    GateResult(name="complexity", passed=True, reason="3, at most 15"),
    GateResult(name="steps", passed=True, reason="2 of 2 passed"),
]
COMMIT = "a" * 40


def verdicts_of(one: Build) -> dict[str, str]:
    return {status.stage: status.verdict for status in statuses_of(one).statuses}


def description_of(one: Build, stage: Stage) -> str:
    return next(status.description for status in statuses_of(one).statuses if status.stage is stage)


def failed(*gates: GateResult, **changes: Any) -> Build:
    return build(state=S.FAILURE, gates=list(gates), reason="the reason", **changes)


def refused(name: str, reason: str = "why") -> GateResult:
    return GateResult(name=name, passed=False, reason=reason)


@pytest.mark.parametrize(
    ("one", "verdicts"),
    [
        (build(), "pending pending pending pending"),
        (build(environment=None), "pending pending pending"),
        (build(state=S.RUNNING), "running pending pending pending"),
        (build(state=S.RUNNING, stage=Stage.TEST), "running running pending pending"),
        (build(state=S.RUNNING, stage=Stage.DEPLOY, passed=True), "success success success running"),
        (build(state=S.SUCCESS, passed=True), "success success success success"),
        (build(state=S.SUCCESS, passed=True, environment=None), "success success success"),
        (build(state=S.FAILURE, passed=True), "success success success failure"),
        (failed(*GATES, refused("coverage")), "success failure success error"),
        (failed(refused("manifest")), "failure error error error"),
        (failed(refused("coverage"), refused("secrets")), "success failure failure error"),
        (failed(refused("a_gate_of_tomorrow")), "success success failure error"),
        (failed(*GATES), "failure success success error"),  # what passed could not be sealed
        (build(state=S.ERROR), "error error error error"),
        (build(state=S.ERROR, passed=True), "success success success error"),
        (build(state=S.CANCELLED), "cancelled cancelled cancelled cancelled"),
        (build(state=S.SUPERSEDED), "cancelled cancelled cancelled cancelled"),
    ],
)
def test_each_stage_has_a_verdict(one: Build, verdicts: str) -> None:
    assert list(verdicts_of(one).values()) == verdicts.split()


def test_a_step_that_fails_is_its_stages_and_what_follows_was_not_run() -> None:
    step = StepRun(name="unit", stage=Stage.TEST, state="failure", started_at=AT, reason="exited with 1")
    one = failed(refused("steps", "unit exited with 1"), steps=[step])
    assert list(verdicts_of(one).values()) == ["success", "failure", "error", "error"]
    assert description_of(one, Stage.TEST) == "steps: unit exited with 1"
    assert description_of(one, Stage.ANALYSIS) == "not run: test failed"


def test_a_step_that_passed_when_it_was_run_again_is_not_the_one_that_failed() -> None:
    def ran(name: str, stage: Stage, state: str) -> StepRun:
        return StepRun.model_validate({"name": name, "stage": stage, "state": state, "started_at": AT})

    steps = [ran("unit", Stage.TEST, "failure"), ran("unit (again)", Stage.TEST, "success")]
    one = failed(refused("steps", "lint exited with 1"), steps=[*steps, ran("lint", Stage.ANALYSIS, "failure")])
    assert " ".join(verdicts_of(one).values()) == "success success failure error"


def test_the_description_is_the_reason() -> None:
    passed = build(state=S.SUCCESS, passed=True, gates=GATES, reason="notes-r1 is live in production")
    assert description_of(passed, Stage.TEST) == "coverage: 80, at least 70"
    assert description_of(passed, Stage.BUILD) == "passed"
    assert description_of(passed, Stage.DEPLOY) == "notes-r1 is live in production"
    untested = build(state=S.SUCCESS, passed=True, untested=True)
    assert description_of(untested, Stage.TEST) == "untested: no test reported anything"
    assert (
        description_of(build(state=S.SUPERSEDED, reason="superseded by notes-2"), Stage.BUILD)
        == "superseded by notes-2"
    )


def source(forge: str, url: str, api_url: str | None = None) -> Source:
    return Source(forge=Forge(forge), url=url, api_url=api_url)


@pytest.mark.parametrize(
    ("where", "url"),
    [
        (
            source("github", "https://github.com/octo/notes.git"),
            "https://api.github.com/repos/octo/notes/statuses/",
        ),
        (source("github", "git@github.com:octo/notes.git"), "https://api.github.com/repos/octo/notes/statuses/"),
        (source("github", "https://ghe.example/octo/notes"), "https://ghe.example/api/v3/repos/octo/notes/statuses/"),
        (
            source("github", "https://github.com/octo/notes", "https://proxy.example/gh/"),
            "https://proxy.example/gh/repos/octo/notes/statuses/",
        ),
        (
            source("gitea", "https://gitea.example:3000/octo/notes.git"),
            "https://gitea.example:3000/api/v1/repos/octo/notes/statuses/",
        ),
        (
            source("gitea", "https://forge.example/gitea/octo/notes.git"),
            "https://forge.example/gitea/api/v1/repos/octo/notes/statuses/",
        ),
        (
            source("gitea", "ssh://git@gitea.example:22/octo/notes.git", "https://gitea.example"),
            "https://gitea.example/api/v1/repos/octo/notes/statuses/",
        ),
        (
            source("gitlab", "https://gitlab.com/group/sub/notes.git"),
            "https://gitlab.com/api/v4/projects/group%2Fsub%2Fnotes/statuses/",
        ),
        (
            source("gitlab", "https://forge.example/gitlab/group/notes.git", "https://forge.example/gitlab"),
            "https://forge.example/gitlab/api/v4/projects/group%2Fnotes/statuses/",
        ),
    ],
)
def test_each_forge_has_its_place_for_it(where: Source, url: str) -> None:
    status = Status(stage=Stage.TEST, verdict=V.SUCCESS, description="x")
    assert status_request(where, "t", COMMIT, status, "http://page").url == url + COMMIT


@pytest.mark.parametrize(
    ("forge", "verdicts"),
    [
        ("github", "pending pending success failure error error"),
        ("gitea", "pending pending success failure error error"),
        ("gitlab", "pending running success failed failed canceled"),
    ],
)
def test_each_forge_has_its_words_for_it(forge: str, verdicts: str) -> None:
    where = source(forge, "https://forge.example/octo/notes")
    statuses = [Status(stage=Stage.TEST, verdict=verdict, description="x") for verdict in V]
    assert [status_request(where, "t", COMMIT, each, "p").body["state"] for each in statuses] == verdicts.split()


@pytest.mark.parametrize(
    ("forge", "header", "value", "name", "limit"),
    [
        ("github", "Authorization", "Bearer t", "context", 140),
        ("gitea", "Authorization", "token t", "context", 255),
        ("gitlab", "PRIVATE-TOKEN", "t", "name", 255),
    ],
)
def test_the_token_is_in_a_header_and_the_reason_is_cut(
    forge: str, header: str, value: str, name: str, limit: int
) -> None:
    status = Status(stage=Stage.TEST, verdict=V.FAILURE, description="é" * 300)
    request = status_request(source(forge, "https://forge.example/octo/notes"), "t", COMMIT, status, "http://page")
    assert request.headers[header] == value
    assert request.body[name] == "slipway/test"
    assert request.body["target_url"] == "http://page"
    assert request.body["description"] == "é" * (limit - 1) + "…"
