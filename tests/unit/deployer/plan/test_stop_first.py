"""Policy about volumes: the old instance makes room for the new one, and comes back if that fails."""

import os
from dataclasses import replace

import pytest

from services.deployer.plan.action import (
    AddInstance,
    Check,
    DrainOld,
    MoveInstance,
    MoveRelease,
    RecordDowntime,
    StartInstance,
    StopInstance,
    Switch,
    SyncProxy,
    Wait,
)
from services.deployer.plan.apply_changes import apply
from services.deployer.plan.observe import InstanceHealth
from services.deployer.plan.plan import plan
from services.deployer.plan.plan_work import plan_work
from services.deployer.releases.environment import Override
from services.deployer.releases.release import Release, view
from services.deployer.store import is_open
from shared.models import InstanceState, ReleaseState
from shared.proxy_models import RouteState
from tests.support.deployer.fakes import (
    LIMITS,
    T0,
    a_failure,
    a_release,
    a_world,
    acts,
    after,
    an_instance,
    with_volume,
)
from tests.support.deployer.simulated import Simulation

R, S = ReleaseState, InstanceState
NOW = after(100)
OLD = a_release(1, manifest=with_volume())
NEW = a_release(2, R.STARTING, manifest=with_volume(), strategy="stop-first")
ROOM = NEW.model_copy(update={"drain_old_at": after(90), "down_from": after(90)})
FIRST, SECOND = an_instance(OLD, 1), an_instance(NEW, 1)
GONE = an_instance(OLD, 1, S.STOPPED, ended_at=T0)
IN_ROUTE = {"notes-r1-1": RouteState.ROUTABLE}


# --- which strategy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "strategy"),
    [
        (False, False, "start-first"),
        (False, True, "stop-first"),
        (True, False, "stop-first"),
        (True, True, "stop-first"),
    ],
)
def test_a_release_that_has_a_volume_or_replaces_one_that_has_goes_stop_first(
    old: bool, new: bool, strategy: str
) -> None:
    plain = a_release(9).manifest
    live = a_release(1, manifest=with_volume() if old else plain)
    pending = a_release(2, R.PENDING, manifest=with_volume() if new else plain)
    world = a_world([live, pending], [an_instance(live, 1)])
    started = apply([MoveRelease("notes-r2", R.STARTING, "starts")], world, {}, NOW).releases["notes-r2"]
    assert (started.strategy, view(started, NOW).strategy) == (strategy, strategy)


# --- before the old one is touched ------------------------------------------------------------------------------------


def test_it_is_checked_and_the_proxy_asked_while_the_old_one_serves() -> None:
    world = a_world([OLD, NEW], [FIRST], routes=None)
    assert acts(world, NOW) == []
    assert list(plan_work(world)) == [SyncProxy(), Check("notes-r2")]
    assert acts(replace(world, checked={"notes-r2": ""}), NOW) == []
    assert acts(replace(world, routes=IN_ROUTE), NOW) == []
    both = replace(world, routes=IN_ROUTE, checked={"notes-r2": ""})
    assert plan(both, LIMITS, NOW) == [DrainOld("notes-r2")]
    assert Check("notes-r2") not in list(plan_work(both))


def test_what_cannot_start_fails_before_anything_is_stopped() -> None:
    world = a_world([OLD, NEW], [FIRST], routes=IN_ROUTE, checked={"notes-r2": "its artifact is gone"})
    assert plan(world, LIMITS, NOW) == [MoveRelease("notes-r2", R.FAILED, "its artifact is gone")]
    refused = a_world([OLD, NEW], [FIRST], routes=None, refused="host taken")
    assert plan(refused, LIMITS, NOW) == [MoveRelease("notes-r2", R.FAILED, "host taken")]


def test_the_first_release_waits_for_nobody_and_leaves_nobody_without_an_instance() -> None:
    world = a_world([NEW], [], routes=None, checked={"notes-r2": ""})
    assert plan(world, LIMITS, NOW) == [DrainOld("notes-r2")]
    room = apply([DrainOld("notes-r2")], world, {}, NOW).releases["notes-r2"]
    assert (room.drain_old_at, room.down_from, room.is_down) == (NOW, None, False)
    assert plan(replace(world, releases={room.id: room}), LIMITS, NOW) == [AddInstance("notes-r2")]


# --- the order ------------------------------------------------------------------------------------------------------


def test_the_order_is_drain_then_stop_then_start_then_live() -> None:
    world = a_world([OLD, NEW], [FIRST], routes=IN_ROUTE, checked={"notes-r2": ""})
    room = apply([DrainOld("notes-r2")], world, {}, NOW).releases["notes-r2"]
    assert (room.drain_old_at, room.down_from, room.is_down) == (NOW, NOW, True)
    world = replace(world, releases={OLD.id: OLD, room.id: room})
    assert plan(world, LIMITS, NOW) == [MoveInstance("notes-r1-1", S.DRAINING, "makes room for notes-r2")]

    draining = FIRST.model_copy(update={"state": S.DRAINING})
    world = a_world([OLD, ROOM], [draining], routes={"notes-r1-1": RouteState.DRAINING})
    assert plan(world, LIMITS, NOW) == [Wait("notes-r2", "waits for the end of notes-r1-1")]
    assert list(plan_work(world)) == [SyncProxy()]
    said = ROOM.model_copy(update={"reason": "waits for the end of notes-r1-1"})
    world = replace(world, routes={}, releases={OLD.id: OLD, ROOM.id: said})
    assert plan(world, LIMITS, NOW) == []
    assert list(plan_work(world)) == [StopInstance("notes-r1-1")]

    ended = a_world([OLD, ROOM], [draining.model_copy(update={"state": S.STOPPED})], routes={})
    assert AddInstance("notes-r2") not in plan(ended, LIMITS, NOW)  # nobody has seen its end
    world = a_world([OLD, ROOM], [GONE], routes={})
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r2")]

    starting = a_world([OLD, said], [GONE, an_instance(NEW, 1, S.STARTING)], routes={})
    why = "waits for notes-r2-1 to be ready: it was not probed yet"
    assert plan(starting, LIMITS, NOW) == [Wait("notes-r2", why)]

    world = a_world([OLD, ROOM], [GONE, SECOND], routable=["notes-r2-1"])
    assert plan(world, LIMITS, NOW) == [RecordDowntime("notes-r2")]
    served = apply([RecordDowntime("notes-r2")], world, {}, after(91.4)).releases["notes-r2"]
    assert (served.down_s, view(served, NOW).down_s, served.is_down) == (1.4, 1.4, False)
    world = replace(world, releases={OLD.id: OLD, served.id: served})
    assert plan(world, LIMITS, NOW) == [Switch("notes-r2")]
    switched = served.model_copy(update={"switched_at": NOW})
    world = replace(world, releases={OLD.id: OLD, served.id: switched})
    changes = plan(world, LIMITS, NOW)
    assert changes == [
        MoveRelease("notes-r2", R.LIVE, "its instances are in the route, the old ones out of it"),
        MoveRelease("notes-r1", R.RETIRED, "replaced by notes-r2"),
    ]
    events = [event.model_dump() for event in apply(changes, world, {}, NOW).events]
    assert (events[0]["strategy"], events[0]["down_s"]) == ("stop-first", 1.4)
    assert "down_s" not in events[1]


def test_a_killed_one_is_replaced_only_when_nothing_of_it_runs_any_more() -> None:
    failed = an_instance(OLD, 1, S.FAILED, changed_at=T0)
    assert plan(a_world([OLD], [failed], routes={}), LIMITS, NOW) == []
    assert list(plan_work(a_world([OLD], [failed], routes={}))) == [StopInstance("notes-r1-1")]
    gone = failed.model_copy(update={"ended_at": T0})
    assert plan(a_world([OLD], [gone], routes={}), LIMITS, NOW) == [AddInstance("notes-r1", "notes-r1-1")]


# --- failing ----------------------------------------------------------------------------------------------------------


def test_when_the_new_one_fails_the_old_release_is_started_again_after_its_end() -> None:
    faulty = ROOM.model_copy(update={"failure": a_failure("notes-r2-1")})
    failed = an_instance(NEW, 1, S.FAILED)
    world = a_world([OLD, faulty], [GONE, failed], routes={})
    why = "notes-r2-1: it ended with exit code 3; notes-r1 is started again"
    assert plan(world, LIMITS, NOW) == [MoveRelease("notes-r2", R.FAILED, why)]

    ended = faulty.model_copy(update={"state": R.FAILED})
    world = replace(world, releases={OLD.id: OLD, ended.id: ended})
    assert plan(world, LIMITS, NOW) == []
    assert list(plan_work(world)) == [StopInstance("notes-r2-1")]
    world = replace(world, instances={GONE.id: GONE, failed.id: failed.model_copy(update={"ended_at": NOW})})
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r1")]

    assert is_open(ended)  # until it is known how long nobody was served
    back = an_instance(OLD, 2)
    world = a_world([OLD, ended], [GONE, back], routable=["notes-r1-2"])
    assert plan(world, LIMITS, NOW) == [RecordDowntime("notes-r2")]
    assert not is_open(apply([RecordDowntime("notes-r2")], world, {}, NOW).releases["notes-r2"])


def test_the_old_one_that_is_about_to_leave_does_not_count_as_serving_again() -> None:
    world = a_world([OLD, ROOM], [FIRST], routes=IN_ROUTE)
    assert plan(world, LIMITS, NOW) == [MoveInstance("notes-r1-1", S.DRAINING, "makes room for notes-r2")]


# --- replaced within its release --------------------------------------------------------------------------------------


def fresh_again(release: Release, *instances: object, **facts: object) -> object:
    return plan(a_world([release], instances, **facts), LIMITS, NOW)  # type: ignore[arg-type]


def test_an_unhealthy_or_outdated_instance_makes_room_for_the_next() -> None:
    leaves = [MoveInstance("notes-r1-1", S.DRAINING, "makes room for another instance")]
    ill = an_instance(OLD, 1, S.UNHEALTHY, changed_at=after(70))
    late = {ill.id: InstanceHealth(9, "timeout")}
    assert fresh_again(OLD, ill, health=late) == leaves
    assert fresh_again(OLD, ill, health=late, may_replace=False) == []
    other = Override(configuration="of other values")
    assert fresh_again(OLD, FIRST, routable=[FIRST.id], override=other) == leaves
    draining = an_instance(OLD, 1, S.DRAINING)
    assert fresh_again(OLD, draining, routes={}, override=other) == []
    assert fresh_again(OLD, GONE, routes={}, override=other) == [AddInstance("notes-r1")]


def test_without_volumes_nothing_is_checked_and_nothing_waits() -> None:
    live, starting = a_release(1), a_release(2, R.STARTING)
    world = a_world([live, starting], [an_instance(live, 1)], routes=None)
    assert plan(world, LIMITS, NOW) == [AddInstance("notes-r2")]
    added = replace(world, instances={**world.instances, SECOND.id: an_instance(starting, 1, S.STARTING)}, statuses={})
    assert StartInstance("notes-r2-1") in list(plan_work(added)) and Check("notes-r2") not in list(plan_work(added))


# --- whatever happens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(int(os.environ.get("E2E_SEEDS", "12"))))  # 200 in `make soak`
@pytest.mark.slow
def test_two_instances_never_have_one_volume_whatever_happens_in_which_order(seed: int) -> None:
    world = Simulation(seed)
    world.create_release(volumes=True, bad=False)
    world.settle()
    for _ in range(250):
        world.happen()
    world.settle()
    assert world.violations == []
    [live] = [release for release in world.releases.values() if release.state is R.LIVE]
    assert world.served_by() == [live.id] and len(world.running()) == 1
    assert not any(release.is_down for release in world.releases.values())
