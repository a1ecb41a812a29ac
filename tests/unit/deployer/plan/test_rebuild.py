"""A live release whose artifact is gone: what runs serves on, nothing is added, and its commit is built again."""

import pytest

from services.deployer.plan.action import AddInstance, BeginRebuild, EndRebuild, FollowRebuild, MoveInstance
from services.deployer.plan.apply_changes import apply
from services.deployer.plan.observe import InstanceHealth
from services.deployer.plan.plan import plan
from services.deployer.plan.plan_work import is_at_rest, plan_work
from services.deployer.releases.environment import EnvironmentState, Lifecycle, Override
from services.deployer.releases.rebuild import Rebuild
from services.deployer.releases.release import rollback_target, view
from shared.models import InstanceState, ReleaseState
from tests.support.deployer.fakes import (
    LIMITS,
    T0,
    a_manifest,
    a_release,
    a_world,
    acts,
    after,
    an_instance,
    with_volume,
)

S, R = InstanceState, ReleaseState
NOW = after(100)
CAUSE = "the engine has no image notes:1 as it was built"
REBUILD = Rebuild(cause=CAUSE, next_at=T0)
LIVE, REBUILT = a_release(1), a_release(1, rebuild=REBUILD)
STOPPED = Override(lifecycle=Lifecycle(state=EnvironmentState.STOPPED, reason="stopped", has_ended=True))


def test_an_instance_that_cannot_start_ends_without_a_fault_and_the_rebuild_begins() -> None:
    first = an_instance(LIVE, 1, S.STARTING)
    world = a_world([LIVE], [first], statuses={}, unusable={LIVE.id: CAUSE})
    assert plan(world, LIMITS, NOW) == [MoveInstance(first.id, S.STOPPED, CAUSE)]
    ended = first.model_copy(update={"state": S.STOPPED, "ended_at": T0})
    world = a_world([LIVE], [ended], statuses={}, unusable={LIVE.id: CAUSE})
    assert plan(world, LIMITS, NOW) == [BeginRebuild(LIVE.id, CAUSE)]
    commit = apply(plan(world, LIMITS, NOW), world, {}, NOW)
    assert commit.releases[LIVE.id].rebuild == Rebuild(cause=CAUSE, next_at=NOW)
    [event] = commit.events
    assert (event.type, event.id, event.reason) == ("artifact.gone", LIVE.id, f"{CAUSE}; its commit is built again")


def test_nothing_is_added_and_build_is_asked_until_another_release_takes_the_place() -> None:
    world = a_world([REBUILT], [])
    assert plan(world, LIMITS, NOW) == []
    assert list(plan_work(world)) == [FollowRebuild(REBUILT.id)]
    for state in (R.PENDING, R.STARTING):
        waiting = a_world([REBUILT, a_release(2, state)], [])
        assert FollowRebuild(REBUILT.id) not in list(plan_work(waiting))
    replaced = a_world([a_release(1, R.RETIRED, rebuild=REBUILD), a_release(2)], [])
    assert FollowRebuild(REBUILT.id) not in list(plan_work(replaced))


@pytest.mark.parametrize("manifest", [a_manifest(replicas=2, max_replicas=2), with_volume()])
def test_what_runs_serves_on_although_its_variables_are_outdated(manifest: object) -> None:
    release = a_release(1, rebuild=REBUILD, manifest=manifest)
    running = an_instance(release, 1, configuration="older")
    crashed = an_instance(release, 2, S.FAILED, ended_at=T0)
    world = a_world([release], [running, crashed], routable=[running.id])
    assert acts(world, NOW) == []
    fresh = an_instance(release, 3, S.STARTING, configuration="older")  # its folder was copied before
    world = a_world([release], [fresh], health={fresh.id: InstanceHealth(0, "well")})
    assert acts(world, NOW) == [MoveInstance(fresh.id, S.READY, "its health path answers")]


def test_a_stopped_environment_needs_no_rebuild_and_its_start_finds_out_anew() -> None:
    world = a_world([REBUILT], [], override=STOPPED)
    assert list(plan_work(world)) == []
    assert plan(world, LIMITS, NOW) == [EndRebuild(REBUILT.id)]
    commit = apply(plan(world, LIMITS, NOW), world, {}, NOW)
    assert commit.releases[REBUILT.id].rebuild is None
    assert plan(a_world([LIVE], []), LIMITS, NOW) == [AddInstance(LIVE.id)]


def test_an_artifact_of_a_release_that_is_not_live_yet_fails_it_as_before() -> None:
    starting = a_release(2, R.STARTING)
    instance = an_instance(starting, 1, S.STARTING)
    world = a_world([starting], [instance], statuses={}, start_errors={instance.id: CAUSE})
    assert plan(world, LIMITS, NOW) == [MoveInstance(instance.id, S.FAILED, CAUSE, fault=True)]


def test_the_release_says_what_is_wrong_and_is_no_target_of_a_rollback() -> None:
    assert view(REBUILT, NOW).problem == f"{CAUSE}; its commit is built again"
    assert view(LIVE, NOW).problem is None
    retired = a_release(1, R.RETIRED, rebuild=REBUILD)
    assert view(retired, NOW).problem is None
    older, live = a_release(0, R.RETIRED), a_release(2)
    assert rollback_target([live, retired, older], live) == older
    assert not is_at_rest(a_world([REBUILT], []))


def test_what_the_engine_does_not_know_at_the_first_look_did_not_crash() -> None:
    lost, crashed = an_instance(LIVE, 1), an_instance(LIVE, 2)
    world = a_world([LIVE], [lost, crashed], statuses={}, forgotten=frozenset({lost.id}))
    stopped = "the platform was stopped, and the engine does not know it any more"
    assert plan(world, LIMITS, NOW) == [
        MoveInstance(lost.id, S.STOPPED, stopped),
        MoveInstance(crashed.id, S.FAILED, "the engine does not know it any more"),
    ]
