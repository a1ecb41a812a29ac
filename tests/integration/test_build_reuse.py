"""A commit that passed is not built again, in whole runs with real git and steps; each step that runs leaves a mark in
a file.
"""

import dataclasses
import shutil
from pathlib import Path

import pytest

from services.build.builds.build import Build
from services.build.pipeline.deployer_client import DeployerClient, ReleaseRefused, Waiting
from services.build.system.stop import Stop
from shared.clock import now
from shared.host.directory_digest import directory_digest
from shared.manifest import Gates
from shared.models import BuildState, Environment, ReleaseState, ReleaseView
from tests.support.build.platform import Platform

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
MANIFEST = """app: notes
steps: [{name: make, commands: ["echo ran >> %s", "%s"]}]
%srun: {command: cat app.txt}
"""


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Has a line for each time that the step was run."""
    return tmp_path / "ran"


def times(ran: Path) -> int:
    return len(ran.read_text().splitlines())


def files(ran: Path, *, also: str = "true", gates: str = "") -> dict[str, str]:
    return {"slipway.yml": MANIFEST % (ran, also, gates), "app.txt": "hello\n"}


async def twice(platform: Platform, files: dict[str, str]) -> tuple[Build, Build]:
    """A build on dev, and one of the same commit on release."""
    first = await platform.build(files, branch="dev")
    return first, await platform.again(first, "release", fresh=False)


async def test_the_same_commit_on_another_branch_runs_no_step_and_has_the_same_artifact(
    platform: Platform, ran: Path
) -> None:
    first, second = await twice(platform, files(ran))
    assert (first.state, second.state, times(ran)) == (BuildState.SUCCESS, BuildState.SUCCESS, 1)
    assert (first.reused, second.reused, second.steps) == (None, first.id, [])
    assert second.passed and second.artifact == first.artifact and first.artifact is not None
    assert (second.gates, second.untested, second.judgement) == (first.gates, first.untested, first.judgement)
    assert second.sealed_at is not None and first.sealed_at is not None and second.sealed_at > first.sealed_at
    assert f"--- reused: {first.id} passed" in platform.log(second)
    assert f"http://127.0.0.1/builds/{first.id}" in platform.log(second)
    assert directory_digest(Path(first.artifact.built_in)) == first.artifact.digest
    assert not (platform.context.releases / "notes" / second.id).exists()


async def test_the_build_that_was_run_is_named_also_by_the_third(platform: Platform, ran: Path) -> None:
    first, second = await twice(platform, files(ran))
    third = await platform.again(second, "dev", fresh=False)
    assert (third.reused, third.artifact, times(ran)) == (first.id, first.artifact, 1)


async def test_what_is_asked_for_by_hand_is_built_anew(platform: Platform, ran: Path) -> None:
    first = await platform.build(files(ran))
    second = await platform.again(first)
    assert (second.state, second.reused, times(ran)) == (BuildState.SUCCESS, None, 2)
    assert second.artifact != first.artifact
    assert (await platform.again(first, fresh=False)).reused == second.id  # the newest


@pytest.mark.parametrize("where", ["slipway.yml", "ci/test.sh"])
async def test_what_may_ask_for_its_branch_is_reused_on_that_branch_only(
    platform: Platform, ran: Path, where: str
) -> None:
    """Else a step that tests more on `release` could be passed by on its way there."""
    asking = 'test "$CI_COMMIT_BRANCH" != release'
    given = files(ran, also="sh ci/test.sh") | {"ci/test.sh": asking}
    if where == "slipway.yml":
        given = files(ran, also=asking.replace('"', '\\"'))
    first, second = await twice(platform, given)
    assert (first.state, second.state, times(ran)) == (BuildState.SUCCESS, BuildState.FAILURE, 2)
    assert (await platform.again(first, "dev", fresh=False)).reused == first.id


async def test_a_build_that_failed_is_run_again(platform: Platform, ran: Path) -> None:
    first, second = await twice(platform, files(ran, also="false"))
    assert (first.state, second.state, times(ran)) == (BuildState.FAILURE, BuildState.FAILURE, 2)


async def test_what_passed_before_a_failure_of_the_same_is_no_proof_any_more(platform: Platform, ran: Path) -> None:
    switch = ran.with_name("broken")
    first = await platform.build(files(ran, also=f"test ! -e {switch}"))
    switch.touch()
    assert (await platform.again(first)).state is BuildState.FAILURE
    again = await platform.again(first, fresh=False)
    assert (again.state, again.reused, times(ran)) == (BuildState.FAILURE, None, 3)


async def test_another_minimum_of_the_app_is_another_verdict(platform: Platform, ran: Path) -> None:
    first = await platform.build(files(ran))
    app = await platform.store.app("notes")
    await platform.store.put_app(app.model_copy(update={"gates": Gates(coverage=90)}))
    second = await platform.again(first, fresh=False)
    assert (second.state, second.reused, times(ran)) == (BuildState.FAILURE, None, 2)


async def test_an_artifact_that_was_changed_or_removed_is_not_reused(platform: Platform, ran: Path) -> None:
    first = await platform.build(files(ran))
    assert first.artifact is not None
    (platform.context.releases / "notes" / first.id / "app.txt").write_text("other\n")
    second = await platform.again(first, fresh=False)
    assert (second.reused, times(ran)) == (None, 2)
    assert second.artifact is not None
    shutil.rmtree(second.artifact.built_in)
    assert (await platform.again(first, fresh=False)).reused is None
    assert times(ran) == 3


async def test_a_gate_that_compares_is_reused_only_against_the_same_baseline(platform: Platform, ran: Path) -> None:
    asked = files(ran, gates="gates: {new_findings: 0}\n")
    first = await platform.build(asked)  # has nothing to be compared with; the next one has this
    second = await platform.again(first, "dev", fresh=False)
    third = await platform.again(first, "release", fresh=False)
    assert (second.state, second.reused, third.reused, times(ran)) == (BuildState.SUCCESS, None, second.id, 2)


async def test_a_branch_is_compared_with_what_was_reused_for_it(platform: Platform, ran: Path) -> None:
    first, second = await twice(platform, files(ran))
    baseline = await platform.history.baseline("notes", "release")
    assert second.reused and baseline is not None and (baseline.build, baseline.commit) == (first.id, first.commit)


async def test_what_an_attempt_left_that_died_is_no_part_of_what_is_reused(platform: Platform, ran: Path) -> None:
    first = await platform.build(files(ran))
    folder = platform.context.releases / "notes" / "notes-2"
    folder.mkdir()
    (folder / "half").touch()
    second = await platform.again(first, fresh=False, state=BuildState.RUNNING, attempt=1)
    assert (second.id, second.reused, second.attempt) == ("notes-2", first.id, 2)
    assert not folder.exists()


class Housekeeper(DeployerClient):
    """A deployer that has just cleaned up what it is asked to release, the first time."""

    def __init__(self) -> None:
        self.asked: list[Build] = []

    async def request(self, build: Build, waiting: Waiting, stop: Stop) -> ReleaseView:
        self.asked.append(build)
        assert build.artifact is not None
        if len(self.asked) == 1:
            shutil.rmtree(build.artifact.built_in)
            raise ReleaseRefused("the artifact has been cleaned up")
        state = ReleaseState.LIVE
        return ReleaseView(
            id="notes-r1", app="notes", environment=Environment.PRODUCTION, build=build.id, commit=build.commit,
            state=state, created_at=now(),
        )  # fmt: skip


async def test_what_is_cleaned_up_before_it_is_released_is_built_anew(platform: Platform, ran: Path) -> None:
    first = await platform.build(files(ran))
    deployer = Housekeeper()
    platform.context = dataclasses.replace(platform.context, deployer=deployer)
    second = await platform.again(first, fresh=False, environment=Environment.PRODUCTION)
    assert (second.state, second.reused, times(ran)) == (BuildState.SUCCESS, None, 2)
    assert [build.reused for build in deployer.asked] == [first.id, None]
    assert second.artifact is not None and second.artifact.ref.endswith(f"/{second.id}")


async def test_what_is_refused_with_its_artifact_in_place_stays_refused(platform: Platform, ran: Path) -> None:
    class Refusing(DeployerClient):
        def __init__(self) -> None:
            pass

        async def request(self, build: Build, waiting: Waiting, stop: Stop) -> ReleaseView:
            raise ReleaseRefused("a volume is another app's")

    first = await platform.build(files(ran))
    platform.context = dataclasses.replace(platform.context, deployer=Refusing())
    second = await platform.again(first, fresh=False, environment=Environment.PRODUCTION)
    assert (second.state, second.reused, times(ran)) == (BuildState.FAILURE, first.id, 1)
    assert second.reason == "the deployer refused it: a volume is another app's"
