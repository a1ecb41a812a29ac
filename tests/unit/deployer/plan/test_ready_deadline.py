"""Tests how long a release waits for its instances, and when its clock stands."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from services.deployer.plan.action import (
    AddInstance,
    Change,
    CreditClock,
    MoveInstance,
    MoveRelease,
    StopClock,
    Wait,
)
from services.deployer.plan.apply_changes import apply
from services.deployer.plan.observe import InstanceHealth, World
from services.deployer.plan.plan import plan
from services.deployer.plan.ready_deadline import credit_after_restart
from services.deployer.releases.release import Release, view
from shared.models import InstanceState, ReleaseState, ReleaseWait
from shared.proxy_models import RouteState
from tests.support.deployer.fakes import LIMITS, T0, a_manifest, a_release, a_world, acts, after, an_instance

R, S = ReleaseState, InstanceState
OLD = a_release(1)
ILL = {"notes-r2-1": InstanceHealth(3, "GET /up answered 500")}
AWAY = "waits for the proxy: proxy does not answer: ConnectError"
NOT_HEALTHY = "waits for the proxy: notes-r2-1 at 127.0.0.1:20001 does not pass Envoy's health check /up"


def starting(**changes: Any) -> Release:
    return a_release(2, R.STARTING, **{"clock_from": T0, "live_at": None, **changes})


def world_of(release: Release, state: InstanceState = S.STARTING, **facts: Any) -> World:
    return a_world([OLD, release], [an_instance(OLD, 1), an_instance(release, 1, state)], **{"routes": None, **facts})


def said(world: World, now: datetime) -> str:
    [reason] = [change.reason for change in plan(world, LIMITS, now) if isinstance(change, Wait)]
    return reason


def next_world(world: World, changes: list[Change], now: datetime) -> World:
    commit = apply(changes, world, {}, now)
    return replace(
        world, releases={**world.releases, **commit.releases}, instances={**world.instances, **commit.instances}
    )


# --- to be ready ------------------------------------------------------------------------------------------------------


def test_an_instance_that_is_not_ready_in_time_fails_with_what_was_seen_last() -> None:
    world = world_of(starting(), health=ILL)
    assert acts(world, after(59.9)) == []
    late = "not ready within 60 s: GET /up answered 500"
    assert acts(world, after(60)) == [MoveInstance("notes-r2-1", S.FAILED, late, fault=True)]


@pytest.mark.parametrize(
    ("facts", "seen"),
    [({}, "it was not probed yet"), ({"statuses": {}}, "the engine has not started it yet")],
)
def test_one_that_was_never_started_or_probed_is_waited_for_as_long(facts: dict[str, Any], seen: str) -> None:
    release = starting()
    world = a_world([release], [an_instance(release, 1, S.STARTING)], **facts)
    assert acts(world, after(59)) == []
    why = f"not ready within 60 s: {seen}"
    assert acts(world, after(60)) == [MoveInstance("notes-r2-1", S.FAILED, why, fault=True)]


def test_the_manifest_says_how_long() -> None:
    manifest = a_manifest().model_copy(update={"run": a_manifest().run.model_copy(update={"ready_within": 5})})
    world = world_of(starting(manifest=manifest), health=ILL)
    assert acts(world, after(4)) == []
    [end] = acts(world, after(5))
    assert isinstance(end, MoveInstance) and end.reason.startswith("not ready within 5 s: ")


def test_where_the_cpu_is_short_a_start_may_take_up_to_four_times_as_long() -> None:
    world = world_of(starting(), health=ILL)
    assert acts(replace(world, cpu_waited_s=40), after(89)) == []
    assert acts(replace(world, cpu_waited_s=240), after(239)) == []
    [end] = acts(replace(world, cpu_waited_s=240), after(240))
    assert isinstance(end, MoveInstance) and end.reason.endswith("; it was given 180 s more, as the CPU was short")


def test_only_the_one_that_is_late_is_blamed() -> None:
    release = starting(manifest=a_manifest(replicas=2))
    instances = [an_instance(release, n, S.STARTING) for n in (1, 2)]
    world = a_world([release], instances, health={**ILL, "notes-r2-2": InstanceHealth(0, "GET /up answered")})
    assert [change.instance for change in acts(world, after(60)) if isinstance(change, MoveInstance)] == ["notes-r2-1"]


# --- to be in the route -----------------------------------------------------------------------------------------------


def test_one_that_envoy_does_not_route_to_drains_and_fails_its_release() -> None:
    world = world_of(starting(), S.READY, waits_for=NOT_HEALTHY)
    assert acts(world, after(59)) == []
    late = "not in the route within 60 s: notes-r2-1 at 127.0.0.1:20001 does not pass Envoy's health check /up"
    assert acts(world, after(60)) == [MoveInstance("notes-r2-1", S.DRAINING, late, fault=True)]


def test_what_is_in_the_route_or_switching_is_waited_for_no_more() -> None:
    routes = {"notes-r1-1": RouteState.ROUTABLE, "notes-r2-1": RouteState.ROUTABLE}
    world = world_of(starting(rollout_opened=True), S.READY, routes=routes)
    assert not any(isinstance(change, MoveInstance) for change in acts(world, after(900)))
    switching = a_world(
        [OLD, starting(switched_at=after(50))],
        [an_instance(OLD, 1, S.DRAINING), an_instance(starting(), 1)],
        routes=None,
        waits_for=NOT_HEALTHY,
    )
    assert acts(switching, after(900)) == []


# --- the clock stands -------------------------------------------------------------------------------------------------


def test_the_clock_stands_while_a_part_of_the_platform_is_away() -> None:
    world = world_of(starting(), S.READY, away=AWAY, waits_for=AWAY)
    stop = StopClock("notes-r2", f"{AWAY}; this time does not count")
    assert plan(world, LIMITS, after(50)) == [stop]
    held = next_world(world, [stop], after(50))
    assert plan(held, LIMITS, after(400)) == []

    back = replace(held, away="", waits_for=NOT_HEALTHY)
    assert plan(back, LIMITS, after(400)) == [CreditClock("notes-r2", 350)]
    goes_on = next_world(back, [CreditClock("notes-r2", 350)], after(400))
    assert acts(goes_on, after(409)) == []
    assert [type(change) for change in acts(goes_on, after(410))] == [MoveInstance]


def test_after_ten_minutes_of_that_in_all_the_release_fails_as_a_fault_of_the_platform() -> None:
    world = world_of(starting(away_since=after(100), away_s=300), S.READY, away=AWAY)
    assert acts(world, after(399)) == []
    why = f"a part of the platform was down for 10 min in all: {AWAY}"
    failed = MoveRelease("notes-r2", R.FAILED, why, platform_fault=True)
    assert acts(world, after(400)) == [failed]
    release = next_world(world, [failed], after(400)).releases["notes-r2"]
    assert (release.state, release.platform_fault, view(release, after(400)).platform_fault) == (R.FAILED, True, True)


def test_a_release_that_is_switching_waits_on_without_the_platform() -> None:
    switching = starting(away_since=T0, switched_at=T0)
    instances = [an_instance(OLD, 1, S.DRAINING), an_instance(switching, 1)]
    world = a_world([OLD, switching], instances, routes=None, away=AWAY)
    assert acts(world, after(900)) == []


def test_the_clock_begins_with_the_first_instance_and_again_when_none_runs_any_more() -> None:
    begun = starting(clock_from=None, created_at=T0)
    world = a_world([begun], [])
    first = next_world(world, [AddInstance("notes-r2")], after(10))
    assert first.releases["notes-r2"].clock_from == after(10)
    second = next_world(first, [AddInstance("notes-r2")], after(20))
    assert second.releases["notes-r2"].clock_from == after(10)
    ended = replace(first, instances={k: i.model_copy(update={"state": S.STOPPED}) for k, i in first.instances.items()})
    assert next_world(ended, [AddInstance("notes-r2")], after(30)).releases["notes-r2"].clock_from == after(30)


@pytest.mark.parametrize(
    ("release", "facts", "now_s", "credit_s"),
    [
        (starting(), {}, 40, None),  # 20 s are left
        (starting(), {}, 50, 5),
        (starting(), {}, 500, 455),
        (starting(away_s=590), {}, 500, 10),  # ten minutes in all
        (starting(), {}, 365 * 86_400, 365 * 86_400 - 45),  # the clock was set forward
        (starting(away_s=600), {}, 500, None),
        (starting(away_since=after(40)), {}, 500, None),  # its clock stands
        (starting(), {"statuses": {}}, 30, 30),  # it was never started
    ],
)
def test_after_a_restart_of_the_deployer_there_is_time_for_a_look(
    release: Release, facts: dict[str, Any], now_s: float, credit_s: float | None
) -> None:
    changes = list(credit_after_restart(world_of(release, **facts), release, after(now_s)))
    assert changes == ([] if credit_s is None else [CreditClock("notes-r2", credit_s)])


# --- what is said -----------------------------------------------------------------------------------------------------


def test_what_a_release_waits_for_is_its_reason() -> None:
    now = after(5)
    unstarted = a_world([starting()], [an_instance(starting(), 1, S.STARTING)], statuses={})
    assert said(unstarted, now) == "waits for notes-r2-1 to be ready: the engine has not started it yet"
    assert said(world_of(starting(), health=ILL), now) == "waits for notes-r2-1 to be ready: GET /up answered 500"
    assert said(world_of(starting(), S.READY, waits_for=NOT_HEALTHY), now) == NOT_HEALTHY
    draining = a_world(
        [OLD, starting(switched_at=T0)], [an_instance(OLD, 1, S.DRAINING), an_instance(starting(), 1)], routes=None
    )
    assert said(draining, now) == "its instances are in the route; waits for notes-r1-1 to drain"


def test_a_client_sees_how_long_it_waits() -> None:
    assert view(starting(), after(42)).wait == ReleaseWait(waited_s=42, limit_s=60, away_s=0, is_held=False)
    held = starting(away_since=after(10), away_s=7)
    assert view(held, after(30)).wait == ReleaseWait(waited_s=10, limit_s=60, away_s=27, is_held=True)
    assert view(OLD, after(30)).wait is None
    assert view(starting(clock_from=None), after(30)).wait == ReleaseWait(waited_s=0, limit_s=60)


def test_a_release_that_an_older_version_stored_as_starting_is_bounded_too() -> None:
    release = starting(clock_from=None)
    world = a_world([release], [an_instance(release, 1, S.STARTING)], health=ILL)
    assert plan(world, LIMITS, after(500)) == [CreditClock("notes-r2", 0)]
    world = next_world(world, [CreditClock("notes-r2", 0)], after(500))
    assert acts(world, after(559)) == []
    assert [type(change) for change in acts(world, after(560))] == [MoveInstance]
