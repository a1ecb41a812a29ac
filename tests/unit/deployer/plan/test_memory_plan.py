"""Policy about memory: limits that change while instances run, and what follows a kill at the limit."""

from dataclasses import replace

import pytest

from services.deployer.plan.action import AddInstance, MoveInstance, MoveRelease, RaiseMemory, SetMemory
from services.deployer.plan.apply_changes import apply
from services.deployer.plan.observe import World
from services.deployer.plan.plan import plan
from services.deployer.plan.plan_work import plan_work
from services.deployer.releases.environment import Override
from services.deployer.releases.instance import registry_record
from services.deployer.releases.out_of_memory import kill_reason, memory_after_kill
from services.deployer.releases.release import Release
from shared.manifest import MIB
from shared.models import Event, InstanceState, ReleaseState
from tests.support.deployer.fakes import (
    LIMITS,
    a_failure,
    a_manifest,
    a_release,
    a_status,
    a_world,
    acts,
    after,
    an_instance,
)

R, S = ReleaseState, InstanceState
MANIFEST = a_manifest(memory="64m", max_memory="256m")
LIVE, STARTING = a_release(1, manifest=MANIFEST), a_release(2, R.STARTING, manifest=MANIFEST)
NOW = after(100)
AT_LIMIT = "killed: out of memory at its limit of 64 MiB"
AT_MAXIMUM = "killed: out of memory at its maximum of 256 MiB; raise resources.max_memory or mend the app"


def killed(release: Release, memory: int, state: InstanceState = S.STARTING, **facts: object) -> World:
    """An instance of the release was killed at that limit, after a child of it had been, and the one before it."""
    instance = an_instance(release, 1, state, memory=memory, oom_kills=1)
    status = a_status(instance, running=False, exit_code=137, oom_killed=True, oom_kills=2)
    return replace(a_world([release], [instance], statuses={instance.id: status}), **facts)  # type: ignore[arg-type]


def fields_of(event: Event) -> dict[str, object]:
    return event.model_dump()


# --- another limit ----------------------------------------------------------------------------------------------------


def test_a_running_instance_gets_the_memory_that_is_wanted_without_being_replaced() -> None:
    instance = an_instance(LIVE, 1)
    world = a_world([LIVE], [instance], routable=[instance.id], override=Override(memory=128 * MIB))
    assert plan(world, LIMITS, NOW) == []
    assert list(plan_work(world)) == [SetMemory(instance.id, 128 * MIB)]
    assert list(plan_work(replace(world, override=Override()))) == []


@pytest.mark.parametrize("state", [S.STARTING, S.READY, S.UNHEALTHY])
def test_of_a_starting_release_too_and_in_every_state_in_which_it_runs(state: InstanceState) -> None:
    instance = an_instance(STARTING, 1, state)
    world = a_world([STARTING], [instance], override=Override(memory=128 * MIB))
    assert SetMemory(instance.id, 128 * MIB) in list(plan_work(world))


def test_what_is_leaving_or_has_no_process_is_let_alone() -> None:
    leaving, unborn = an_instance(LIVE, 1, S.DRAINING), an_instance(LIVE, 2, S.STARTING)
    ended, over = a_release(9, R.RETIRED, manifest=MANIFEST), an_instance(LIVE, 3)
    of_ended = an_instance(ended, 1)
    world = a_world([LIVE, ended], [leaving, unborn, over, of_ended], override=Override(memory=128 * MIB))
    world = replace(
        world,
        statuses={
            leaving.id: a_status(leaving),
            over.id: a_status(over, running=False),
            of_ended.id: a_status(of_ended),
        },
    )
    assert not [piece for piece in plan_work(world) if isinstance(piece, SetMemory)]


def test_the_limit_is_within_the_bounds_of_the_instances_own_manifest() -> None:
    instance = an_instance(LIVE, 1)
    world = a_world([LIVE], [instance], routable=[instance.id], override=Override(memory=999 * MIB))
    assert list(plan_work(world)) == [SetMemory(instance.id, 256 * MIB)]


def test_where_the_engine_cannot_change_a_limit_instances_are_replaced_start_first() -> None:
    instance = an_instance(LIVE, 1)
    world = a_world(
        [LIVE],
        [instance],
        routable=[instance.id],
        override=Override(memory=128 * MIB),
        fixed_memory=frozenset({instance.id}),
    )
    assert list(plan_work(world)) == []
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r1")]
    assert plan(replace(world, override=Override()), LIMITS, NOW) == []


def test_what_was_refused_a_short_while_ago_is_not_asked_again_but_another_limit_is() -> None:
    instance = an_instance(LIVE, 1)
    world = a_world(
        [LIVE],
        [instance],
        routable=[instance.id],
        override=Override(memory=128 * MIB),
        memory_refused={instance.id: 128 * MIB},
    )
    assert list(plan_work(world)) == []
    other = replace(world, override=Override(memory=192 * MIB))
    assert list(plan_work(other)) == [SetMemory(instance.id, 192 * MIB)]


def test_the_registry_says_when_a_limit_was_changed() -> None:
    instance = an_instance(LIVE, 1, changed_at=after(5))
    assert registry_record(instance).updated_at == after(5)
    changed = instance.model_copy(update={"memory": 128 * MIB, "memory_at": after(9)})
    record = registry_record(changed)
    assert (record.memory_limit, record.updated_at) == (128 * MIB, after(9))
    assert registry_record(changed.model_copy(update={"changed_at": after(12)})).updated_at == after(12)


def test_a_later_release_inherits_memory_within_its_own_bounds() -> None:
    release = a_release(3, R.STARTING, manifest=a_manifest(memory="64m", max_memory="96m"))
    world = a_world([release], [], override=Override(memory=128 * MIB))
    commit = apply([AddInstance("notes-r3")], world, {}, NOW)
    assert commit.instances["notes-r3-1"].memory == 96 * MIB


# --- killed at the limit ----------------------------------------------------------------------------------------------


def test_memory_doubles_up_to_the_maximum() -> None:
    assert memory_after_kill(64 * MIB, 256 * MIB) == 128 * MIB
    assert memory_after_kill(192 * MIB, 256 * MIB) == 256 * MIB
    assert memory_after_kill(256 * MIB, 256 * MIB) is None
    assert memory_after_kill(300 * MIB, 256 * MIB) is None
    assert (kill_reason(64 * MIB, 256 * MIB), kill_reason(256 * MIB, 256 * MIB)) == (AT_LIMIT, AT_MAXIMUM)


@pytest.mark.parametrize(("release", "at"), [(STARTING, NOW), (LIVE, after(9))])
def test_a_kill_while_starting_or_watched_doubles_the_memory_and_is_no_fault(release: Release, at: object) -> None:
    changes = plan(killed(release, 64 * MIB), LIMITS, at)  # type: ignore[arg-type]
    assert changes == [
        RaiseMemory(release.id, 128 * MIB),
        MoveInstance(f"{release.id}-1", S.FAILED, AT_LIMIT, fault=False),
    ]


def test_what_is_wanted_already_is_not_doubled_again() -> None:
    """Two instances were killed, or somebody asked for more meanwhile."""
    world = killed(STARTING, 64 * MIB, override=Override(memory=192 * MIB))
    assert plan(world, LIMITS, NOW) == [MoveInstance("notes-r2-1", S.FAILED, AT_LIMIT, fault=False)]


def test_at_the_maximum_a_kill_is_the_releases_failure() -> None:
    world = killed(STARTING, 256 * MIB, override=Override(memory=256 * MIB))
    assert plan(world, LIMITS, NOW) == [MoveInstance("notes-r2-1", S.FAILED, AT_MAXIMUM, fault=True)]
    faulty = STARTING.model_copy(update={"failure": a_failure("notes-r2-1").model_copy(update={"reason": AT_MAXIMUM})})
    failed = an_instance(faulty, 1, S.FAILED)
    assert plan(a_world([faulty], [failed]), LIMITS, NOW) == [
        MoveRelease("notes-r2", R.FAILED, f"notes-r2-1: {AT_MAXIMUM}")
    ]


def test_later_a_kill_is_told_and_the_memory_is_left_to_others() -> None:
    assert plan(killed(LIVE, 64 * MIB, S.READY), LIMITS, NOW) == [
        MoveInstance("notes-r1-1", S.FAILED, AT_LIMIT, fault=False)
    ]


def test_a_kill_is_stored_with_its_memory_and_told_with_the_evidence() -> None:
    world = killed(STARTING, 64 * MIB, override=Override(replicas=1, variables={"A": "b"}))
    commit = apply(plan(world, LIMITS, NOW), world, {}, NOW)
    assert commit.override == Override(replicas=1, memory=128 * MIB, variables={"A": "b"})
    failed = commit.instances["notes-r2-1"]
    assert (failed.oom_killed, failed.oom_kills, failed.memory) == (True, 3, 64 * MIB)
    event = fields_of(commit.events[0])
    assert (event["type"], event["reason"]) == ("instance.failed", AT_LIMIT)
    assert (event["oom_killed"], event["memory_limit"], event["max_memory"]) == (True, 64 * MIB, 256 * MIB)


def raised(to: int, asked: int | None = None) -> Release:
    """The starting release after a kill at each limit below `to`; `asked`: what somebody had asked for before."""
    release, override = STARTING, Override(memory=asked)
    while override.memory != to:
        limit = override.memory or 64 * MIB
        world = killed(release, limit, override=override)
        commit = apply(plan(world, LIMITS, NOW), world, {}, NOW)
        release, override = commit.releases[release.id], commit.override or override
    return release


@pytest.mark.parametrize("asked", [None, 64 * MIB])
@pytest.mark.parametrize("end", [R.FAILED, R.RETIRED, R.ROLLED_BACK])
def test_a_release_that_was_never_live_gives_back_the_memory_that_it_had_doubled(
    end: ReleaseState, asked: int | None
) -> None:
    world = a_world([raised(256 * MIB, asked)], [], override=Override(memory=256 * MIB, replicas=3))
    commit = apply([MoveRelease("notes-r2", end, "x")], world, {}, NOW)
    assert commit.override == Override(memory=asked, replicas=3)


def test_but_not_what_others_asked_for_meanwhile_or_before() -> None:
    world = a_world([raised(128 * MIB)], [], override=Override(memory=192 * MIB))
    assert apply([MoveRelease("notes-r2", R.FAILED, "x")], world, {}, NOW).override is None
    world = a_world([STARTING], [], override=Override(memory=192 * MIB))
    assert apply([MoveRelease("notes-r2", R.FAILED, "x")], world, {}, NOW).override is None


def test_what_a_release_needed_to_go_live_stays() -> None:
    world = a_world([raised(128 * MIB)], [], override=Override(memory=128 * MIB))
    live = apply([MoveRelease("notes-r2", R.LIVE, "x")], world, {}, NOW)
    assert live.override is None
    world = a_world([live.releases["notes-r2"]], [], override=Override(memory=128 * MIB))
    assert apply([MoveRelease("notes-r2", R.RETIRED, "x")], world, {}, NOW).override is None


def test_the_one_in_its_place_starts_at_once_with_more_and_counts_on() -> None:
    failed = an_instance(
        STARTING, 1, S.FAILED, oom_killed=True, oom_kills=2, restarts=1, crashes=5, changed_at=NOW, memory=64 * MIB
    )
    release = STARTING.model_copy(update={"instances_made": 1})
    world = a_world([release], [failed], override=Override(memory=128 * MIB))
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r2", replaces=failed.id)]
    added = apply(plan(world, LIMITS, NOW), world, {}, NOW).instances["notes-r2-2"]
    assert (added.memory, added.oom_kills, added.restarts, added.crashes) == (128 * MIB, 2, 2, 0)
    assert not added.oom_killed
    same = replace(world, override=Override(memory=64 * MIB))
    assert acts(same, NOW) == []
    assert apply([AddInstance("notes-r2", failed.id)], same, {}, NOW).instances["notes-r2-2"].crashes == 6


def test_an_end_that_was_no_kill_says_so() -> None:
    instance = an_instance(STARTING, 1, S.STARTING)
    ended = a_status(instance, running=False, exit_code=1, oom_kills=1)
    world = a_world([STARTING], [instance], statuses={instance.id: ended})
    changes = plan(world, LIMITS, NOW)
    assert changes == [MoveInstance("notes-r2-1", S.FAILED, "it ended with exit code 1", fault=True)]
    commit = apply(changes, world, {instance.id: a_failure(instance.id)}, NOW)
    assert fields_of(commit.events[0])["oom_killed"] is False
    assert (commit.instances[instance.id].oom_killed, commit.instances[instance.id].oom_kills) == (False, 1)
