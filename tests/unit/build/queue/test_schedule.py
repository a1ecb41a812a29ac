from typing import Any

from services.build.builds.build import Build, StopRequest
from services.build.queue.schedule import End, Halt, Start, plan, waits
from shared.models import BuildState, Environment
from tests.support.build.builds import build

RUNNING = BuildState.RUNNING


def superseded(newer: str) -> StopRequest:
    return StopRequest(state=BuildState.SUPERSEDED, reason=f"superseded by {newer}, a newer push of release")


def test_the_oldest_starts_first_up_to_the_limit() -> None:
    waiting = [build(1, app="a"), build(1, app="b"), build(1, app="c")]
    assert plan(waiting, set(), 2) == [Start("a-1"), Start("b-1")]
    assert plan([build(1, app="a", state=RUNNING), *waiting[1:]], {"a-1"}, 2) == [Start("b-1")]


def test_the_newest_of_a_branch_wins_over_one_that_waits() -> None:
    assert plan([build(1), build(2), build(3)], set(), 2) == [
        End("notes-1", superseded("notes-3")),
        End("notes-2", superseded("notes-3")),
        Start("notes-3"),
    ]


def test_the_newest_waits_until_the_one_that_runs_has_stopped() -> None:
    running = build(1, state=RUNNING)
    assert plan([running, build(2)], {"notes-1"}, 2) == [Halt("notes-1", superseded("notes-2"))]
    asked = build(1, state=RUNNING, stop=superseded("notes-2"))
    assert plan([asked, build(2)], {"notes-1"}, 2) == [Halt("notes-1", None)]


def test_a_build_whose_run_has_just_begun_is_its_runs_to_end() -> None:
    """It is queued still, but the run may say any moment that it runs."""
    assert plan([build(1), build(2)], {"notes-1"}, 2) == [Halt("notes-1", superseded("notes-2"))]


def test_one_that_deploys_goes_on_and_the_newer_one_does_not_wait_for_it() -> None:
    deploying = build(1, state=RUNNING, passed=True)
    assert plan([deploying, build(2)], {"notes-1"}, 2) == [Start("notes-2")]
    assert plan([deploying, build(2, state=RUNNING)], {"notes-1", "notes-2"}, 2) == []


def test_one_that_deploys_can_be_cancelled() -> None:
    stop = StopRequest(state=BuildState.CANCELLED, reason="by hand")
    deploying = build(1, state=RUNNING, passed=True, stop=stop)
    assert plan([deploying], {"notes-1"}, 2) == [Halt("notes-1", None)]


def test_each_build_that_is_queued_says_what_it_waits_for() -> None:
    running = build(1, state=RUNNING)
    assert waits([running, build(2)], {"notes-1"}, 2) == {
        "notes-2": "waits until notes-1 has stopped, an older build of release"
    }
    same = build(2, branch="dev", commit=running.commit)
    assert waits([running, same], {"notes-1"}, 2) == {"notes-2": "waits for the verdict of notes-1 on the same commit"}
    others = [build(1, app="a"), build(1, app="b")]
    assert waits([running, *others], {"notes-1"}, 1) == {
        "a-1": "waits for its turn: notes-1 run, and at most 1 at a time; 1 more wait",
        "b-1": "waits for its turn: notes-1 run, and at most 1 at a time; 1 more wait",
    }
    deploying = build(1, state=RUNNING, passed=True)
    assert waits([deploying], {"notes-1"}, 1) == {}


def test_one_that_deploys_does_not_count_against_the_limit() -> None:
    deploying = build(1, app="a", state=RUNNING, passed=True)
    assert plan([deploying, build(1, app="b")], {"a-1"}, 1) == [Start("b-1")]


def test_other_branches_and_commits_alone_are_not_superseded() -> None:
    builds = [build(1, branch="dev"), build(2), build(3, branch=None), build(4, branch=None)]
    assert plan(builds, set(), 9) == [Start("notes-1"), Start("notes-2"), Start("notes-3"), Start("notes-4")]


def test_those_at_the_door_are_a_group_of_their_own() -> None:
    at_door = build(2, door=True, environment=None)
    assert plan([build(1), at_door, build(3, branch="dev")], set(), 9) == [
        Start("notes-1"),
        Start("notes-2"),
        Start("notes-3"),
    ]
    assert plan([build(1, door=True), build(2), build(3, door=True)], set(), 9) == [
        End("notes-1", superseded("notes-3")),
        Start("notes-2"),
        Start("notes-3"),
    ]


def test_what_a_dead_service_left_running_is_taken_up_at_once() -> None:
    left = [build(1, app="a", state=RUNNING), build(1, app="b", state=RUNNING), build(1, app="c")]
    assert plan(left, set(), 1) == [Start("a-1"), Start("b-1")]


def test_a_cancelled_build_that_waits_is_ended_without_running() -> None:
    stop = StopRequest(state=BuildState.CANCELLED, reason="by hand")
    assert plan([build(1, stop=stop)], set(), 2) == [End("notes-1", stop)]


def test_an_app_with_many_builds_does_not_keep_another_waiting() -> None:
    many = [build(number, app="many", branch=f"topic-{number}") for number in range(1, 21)]
    one = build(1, app="one")
    first = many[0].model_copy(update={"state": RUNNING})
    assert plan([first, *many[1:], one], {"many-1"}, 2) == [Start("one-1")]
    assert plan([*many, one], set(), 2) == [Start("many-1"), Start("one-1")]


def test_apps_take_turns_where_one_build_runs_at_a_time() -> None:
    queue = [build(number, app=app, branch=f"topic-{number}") for app in ("a", "b", "c") for number in (1, 2)]
    started: list[str] = []
    served: dict[str, int] = {}
    while queue:
        [action] = plan(queue, set(), 1, served)
        started.append(action.build)
        served[action.build.partition("-")[0]] = len(started)
        queue = [each for each in queue if each.id != action.build]  # it has ended
    assert started == ["a-1", "b-1", "c-1", "a-2", "b-2", "c-2"]


def test_the_app_with_the_fewest_running_goes_before_the_one_served_longest_ago() -> None:
    busy = [build(1, app="a", state=RUNNING)]
    waiting = [build(2, app="a", branch="x"), build(1, app="b")]
    assert plan([*busy, *waiting], {"a-1"}, 2, {"a": 1, "b": 9}) == [Start("b-1")]


def test_a_build_that_deploys_costs_its_app_no_turn() -> None:
    deploying = build(1, app="a", state=RUNNING, passed=True)
    waiting = [build(2, app="a", branch="x"), build(1, app="b", branch="y")]
    assert plan([deploying, *waiting], {"a-1"}, 1, {"b": 1}) == [Start("a-2")]


def test_a_build_of_a_commit_that_is_being_judged_waits_for_the_verdict() -> None:
    one, same = build(1, branch="dev", commit="a" * 40), build(2, commit="a" * 40)
    assert plan([one, same], set(), 2) == [Start("notes-1")]
    running = one.model_copy(update={"state": RUNNING})
    assert plan([running, same], {"notes-1"}, 2) == []
    assert plan([running.model_copy(update={"passed": True}), same], {"notes-1"}, 2) == [Start("notes-2")]


def test_one_that_is_asked_for_by_hand_and_one_of_another_app_do_not_wait() -> None:
    running = build(1, branch="dev", commit="a" * 40, state=RUNNING)
    by_hand = build(2, commit="a" * 40, fresh=True)
    other = build(1, app="other", commit="a" * 40)
    assert plan([running, by_hand, other], {"notes-1"}, 9) == [Start("other-1"), Start("notes-2")]


def test_a_build_by_hand_of_an_older_commit_supersedes_no_build_of_the_head() -> None:
    head, retried = build(3, state=RUNNING), build(4, off_head=True, fresh=True)
    reason = "superseded by notes-3, which builds the head of release; retry notes-4 after it"
    ended = End("notes-4", StopRequest(state=BuildState.SUPERSEDED, reason=reason))
    assert plan([head, retried], {"notes-3"}, 2) == [ended]
    assert plan([build(3, state=RUNNING, passed=True), retried], {"notes-3"}, 2) == [ended]
    assert plan([build(3), retried], set(), 2) == [ended, Start("notes-3")]


def test_builds_by_hand_of_older_commits_run_one_after_the_other_unless_the_head_is_built() -> None:
    first, second = build(2, off_head=True), build(3, off_head=True)
    assert plan([first, second], set(), 2) == [Start("notes-2")]
    assert plan([first.model_copy(update={"state": RUNNING}), second], {"notes-2"}, 2) == []
    assert plan([first, build(3)], set(), 2) == [End("notes-2", superseded("notes-3")), Start("notes-3")]
    cancelled = build(1, state=RUNNING, stop=StopRequest(state=BuildState.CANCELLED, reason="by hand"))
    assert plan([cancelled, second], {"notes-1"}, 2) == [Halt("notes-1", None)], "it waits"


def test_a_build_by_hand_of_the_head_is_not_called_a_push() -> None:
    by_hand = build(2, commit=build(1).commit, fresh=True)
    stop = StopRequest(state=BuildState.SUPERSEDED, reason="superseded by notes-2, a newer build of release")
    assert plan([build(1), by_hand], set(), 2) == [End("notes-1", stop), Start("notes-2")]


def a_rebuild(number: int, app: str, **changes: Any) -> Build:
    return build(number, app=app, off_head=True, rebuilds=f"{app}-r1", **changes)


def test_rebuilds_come_after_all_others_two_at_a_time() -> None:
    rebuilds = [a_rebuild(1, app) for app in ("a", "b", "c")]
    assert plan(rebuilds, set(), 9) == [Start("a-1"), Start("b-1")]
    pushed = build(2, app="z")
    assert plan([*rebuilds, pushed], set(), 2) == [Start("z-2"), Start("a-1")]
    assert plan([*rebuilds, pushed], set(), 1) == [Start("z-2")]
    running = a_rebuild(1, "a", state=RUNNING)
    assert plan([running, *rebuilds[1:]], {"a-1"}, 9) == [Start("b-1")]
    deploying = a_rebuild(1, "a", state=RUNNING, passed=True)
    assert plan([deploying, *rebuilds[1:]], {"a-1"}, 9) == [Start("b-1"), Start("c-1")]
    others = [a_rebuild(1, app, state=RUNNING) for app in ("a", "b")]
    told = waits([*others, rebuilds[2]], {"a-1", "b-1"}, 9)
    assert told == {
        "c-1": "waits for its turn: a-1, b-1 run, and at most 9 at a time, 2 of them to replace artifacts that are gone"
    }


def test_a_rebuild_supersedes_nothing_and_nothing_supersedes_it() -> None:
    pushed = build(2, commit="2" * 40)
    assert plan([a_rebuild(1, "notes"), pushed], set(), 9) == [Start("notes-2"), Start("notes-1")]
    assert plan([pushed, a_rebuild(3, "notes")], set(), 9) == [Start("notes-2"), Start("notes-3")]


def test_a_rebuild_waits_for_the_verdict_on_its_commit() -> None:
    canary = a_rebuild(2, "notes", commit=f"{1:040x}", environment=Environment.CANARY)
    canary = canary.model_copy(update={"rebuilds": "notes-r2"})
    assert plan([a_rebuild(1, "notes"), canary], set(), 9) == [Start("notes-1")]
