import itertools

import pytest

from services.build.builds import build as domain
from services.build.builds.build import ENDED, TRANSITIONS
from services.build.builds.build_steps import step_excused, step_finished, step_ignored, step_skipped, step_started
from shared.manifest import Manifest, Stage
from shared.models import BuildState
from shared.state import IllegalTransition, transition
from tests.support.build.builds import AT, build

S = BuildState
ALLOWED = {
    (S.QUEUED, S.RUNNING),
    (S.QUEUED, S.ERROR),
    (S.QUEUED, S.CANCELLED),
    (S.QUEUED, S.SUPERSEDED),
    (S.RUNNING, S.SUCCESS),
    (S.RUNNING, S.FAILURE),
    (S.RUNNING, S.ERROR),
    (S.RUNNING, S.CANCELLED),
    (S.RUNNING, S.SUPERSEDED),
}


@pytest.mark.parametrize(("current", "new"), list(itertools.product(S, S)))
def test_every_pair_of_states(current: BuildState, new: BuildState) -> None:
    if (current, new) in ALLOWED:
        assert transition(TRANSITIONS, current, new) is new
    else:
        with pytest.raises(IllegalTransition):
            transition(TRANSITIONS, current, new)


def test_a_build_ends_once() -> None:
    over = domain.ended(build(state=S.RUNNING), S.FAILURE, "gate coverage", AT)
    assert (over.state, over.reason, over.finished_at) == (S.FAILURE, "gate coverage", AT)
    with pytest.raises(IllegalTransition):
        domain.ended(over, S.SUCCESS, "", AT)


@pytest.mark.parametrize(("state", "recovered"), [(S.SUCCESS, True), (S.FAILURE, False)])
def test_only_a_success_recovers(state: BuildState, recovered: bool) -> None:
    assert domain.ended(build(state=S.RUNNING), state, "", AT, recovered=True).recovered is recovered


def test_a_build_that_is_taken_up_again_begins_anew() -> None:
    first = step_started(domain.started(build(), AT), "test", Stage.TEST, AT)
    again = domain.started(first, AT.replace(hour=13))
    assert (again.state, again.attempt, again.steps, again.started_at) == (S.RUNNING, 2, [], AT)


def test_a_step_that_is_started_twice_is_there_once() -> None:
    once = step_started(build(state=S.RUNNING), "test", Stage.TEST, AT)
    assert step_started(once, "test", Stage.TEST, AT).steps == once.steps
    done = step_finished(once, "test", 1, "exited with 1", AT)
    assert (done.steps[0].state, done.steps[0].exit_code) == ("failure", 1)


def test_the_event_tells_what_monitor_needs() -> None:
    manifest = Manifest(app="notes", notify=["mailto://a@example.com"])
    over = domain.ended(build(state=S.RUNNING, manifest=manifest, excerpt="boom"), S.FAILURE, "gate steps", AT)
    event = domain.event_of(over).model_dump()
    assert event["type"] == "build.failure"
    assert (event["id"], event["reason"], event["notify"]) == ("notes-1", "gate steps", ["mailto://a@example.com"])
    assert (event["branch"], event["commit"], event["excerpt"]) == ("release", over.commit, "boom")


def test_an_excerpt_begins_at_the_first_sign_of_failure() -> None:
    assert domain.excerpt(["fine", "E  AssertionError: 3", "more"]) == "E  AssertionError: 3\nmore"
    assert domain.excerpt(["a", "b"]) == "a\nb"
    assert len(domain.excerpt(["error: " + "ä" * 9000]).encode()) <= 4096


def test_ended_states_are_those_without_a_way_out() -> None:
    assert {S.SUCCESS, S.FAILURE, S.ERROR, S.CANCELLED, S.SUPERSEDED} == ENDED


def test_its_event_says_in_which_stage_and_with_which_release_it_ended() -> None:
    running = build(state=S.RUNNING, stage=Stage.DEPLOY, release="notes-r9")
    event = domain.event_of(domain.ended(running, S.FAILURE, "release notes-r9 failed: exit 1", AT))
    fields = event.model_extra or {}
    assert event.type == "build.failure"
    assert (fields["stage"], fields["release"], fields["environment"]) == ("deploy", "notes-r9", "production")
    nowhere = domain.event_of(build(environment=None)).model_dump_json(exclude_none=True)
    assert not any(f'"{name}":' in nowhere for name in ("stage", "release", "environment"))


def test_steps_beside_each_other_are_known_by_their_names() -> None:
    both = step_started(step_started(build(state=S.RUNNING), "a", Stage.TEST, AT), "b", Stage.TEST, AT)
    failed = step_finished(both, "a", 1, "exited with 1", AT)
    assert [(step.name, step.state, step.failed) for step in failed.steps] == [
        ("a", "failure", True),
        ("b", "running", False),
    ]
    assert [step.failed for step in step_ignored(failed, "a").steps] == [False, False]
    assert step_excused(failed, "a", "flaky").steps[0].state == "success"


def test_a_skipped_step_does_not_move_the_build_to_its_stage() -> None:
    skipped = step_skipped(build(state=S.RUNNING, stage=Stage.BUILD), "load", Stage.ANALYSIS, "why", AT, 3)
    assert skipped.stage is Stage.BUILD
    assert (skipped.steps[0].state, skipped.steps[0].reason, skipped.steps[0].line) == ("skipped", "why", 3)
