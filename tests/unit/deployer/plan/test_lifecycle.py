"""A stopped or removed environment ends its instances through the route; a restarted one replaces them start-first."""

from dataclasses import replace

from services.deployer.plan.action import AddInstance, DropInstance, MoveInstance, MoveRelease, RecordStopped
from services.deployer.plan.apply_changes import apply
from services.deployer.plan.lifecycle import is_gone
from services.deployer.plan.plan_work import is_at_rest, plan_work
from services.deployer.releases.environment import EnvironmentState, Lifecycle, Override
from shared.models import InstanceState, ReleaseState
from shared.proxy_models import RouteState
from tests.support.deployer.fakes import T0, a_failure, a_release, a_world, acts, after, an_instance

R, S, E = ReleaseState, InstanceState, EnvironmentState
STOPPED = Override(lifecycle=Lifecycle(state=E.STOPPED, reason="stopped", since=T0))
REMOVING = Override(lifecycle=Lifecycle(state=E.REMOVING, reason="removed", since=T0))
NOW = after(100)


def test_a_stop_drains_what_serves_and_keeps_the_live_release() -> None:
    live = a_release(1)
    ready, starting = an_instance(live, 1), an_instance(live, 2, S.STARTING)
    world = a_world([live], [ready, starting], routable=[ready.id], override=STOPPED)
    assert acts(world, NOW) == [
        MoveInstance(ready.id, S.DRAINING, "stopped"),
        MoveInstance(starting.id, S.STOPPED, "stopped"),
    ]
    ended = an_instance(live, 1, S.STOPPED, ended_at=T0)
    empty = a_world([live], [ended], published=frozenset(), override=STOPPED)
    assert acts(a_world([live], [ended], override=STOPPED), NOW) == [], "its entry is still in the registry"
    assert acts(empty, NOW) == [RecordStopped(live.id)]
    commit = apply(acts(empty, NOW), empty, {}, NOW)
    [event] = [each.model_dump() for each in commit.events]
    assert (event["type"], event["release"], event["environment"]) == ("environment.stopped", live.id, "production")
    assert commit.override is not None
    rests = replace(empty, override=commit.override)
    assert acts(rests, NOW) == [] and list(plan_work(rests)) == [] and is_at_rest(rests)
    assert not commit.override.lifecycle.moved(E.RUNNING, "again", NOW).has_ended


def test_a_stop_retires_what_waits_and_lets_what_has_switched_be_live() -> None:
    live, starting, pending = a_release(1), a_release(2, R.STARTING), a_release(3, R.PENDING)
    assert acts(a_world([live, starting, pending], [], override=STOPPED), NOW) == [
        MoveRelease(starting.id, R.RETIRED, "stopped"),
        MoveRelease(pending.id, R.RETIRED, "stopped"),
    ]
    switched = a_release(2, R.STARTING, switched_at=T0)
    world = a_world([live, switched], [an_instance(live, 1), an_instance(switched, 1)], override=STOPPED)
    changes = acts(world, NOW)
    commit = apply(changes, world, {}, NOW)
    assert {each.id: each.state for each in commit.releases.values()} == {live.id: R.RETIRED, switched.id: R.LIVE}


def test_a_stopped_environment_rolls_nothing_back() -> None:
    faulty = a_release(2, failure=a_failure())
    assert list(plan_work(a_world([faulty], [], override=STOPPED))) == []


def test_a_started_environment_adds_instances_of_the_live_release() -> None:
    live = a_release(1)
    ended = an_instance(live, 1, S.STOPPED, ended_at=T0)
    world = a_world([live], [ended], published=frozenset())
    assert acts(world, NOW) == [AddInstance(live.id)]


def test_a_restart_adds_first_and_then_drains_what_is_older() -> None:
    live = a_release(1)
    override = Override(lifecycle=Lifecycle(restarted_at=after(50)))
    old, fresh = an_instance(live, 1), an_instance(live, 2, created_at=after(60))
    world = a_world([live], [old], routable=[old.id], override=override)
    assert acts(world, NOW) == [AddInstance(live.id)] and not is_at_rest(world)
    both = a_world([live], [old, fresh], routable=[old.id, fresh.id], override=override)
    assert acts(both, NOW) == [MoveInstance(old.id, S.DRAINING, "another instance took its place")]
    rests = a_world([live], [fresh], routable=[fresh.id], override=override)
    assert acts(rests, NOW) == [] and is_at_rest(rests)


def test_a_removal_ends_all_releases_and_aborts_the_rollout() -> None:
    live, pending = a_release(1, rollout_opened=True), a_release(2, R.PENDING)
    assert acts(a_world([live, pending], [an_instance(live, 1)], override=REMOVING), NOW) == [
        MoveRelease(live.id, R.RETIRED, "removed", abort_rollout=True),
        MoveRelease(pending.id, R.RETIRED, "removed"),
    ]


def test_a_removal_drops_instances_that_the_proxy_let_go_and_is_gone_after_that() -> None:
    retired = a_release(1, R.RETIRED)
    ended = an_instance(retired, 1, S.STOPPED, ended_at=T0)
    known = a_world([retired], [ended], override=REMOVING, routes={ended.id: RouteState.ABSENT})
    assert acts(known, NOW) == [], "its entry in the registry is still there"
    world = a_world([retired], [ended], override=REMOVING, published=frozenset())
    assert acts(world, NOW) == [DropInstance(ended.id)] and not is_gone(world)
    assert is_gone(a_world([retired], [], override=REMOVING))
    aborting = a_release(1, R.RETIRED, abort_rollout=True)
    assert not is_gone(a_world([aborting], [], override=REMOVING))
