"""Tests how instances leave the route, and which release tells of the requests that were cut off by that."""

from typing import Any

import pytest

from services.deployer.plan.action import Change, MoveInstance, RecordEnd
from services.deployer.plan.apply_changes import apply
from services.deployer.plan.plan import plan
from services.deployer.plan.registry_diff import to_put
from services.deployer.releases.instance import Instance
from services.deployer.releases.release import Release, view
from shared.manifest import Manifest
from shared.models import Environment, InstanceState, ReleaseState
from shared.proxy_models import RouteState
from tests.support.deployer.fakes import LIMITS, T0, a_release, a_world, acts, after, an_instance

R, S = ReleaseState, InstanceState
NOW = after(100)
PATIENT = Manifest.model_validate({"app": "notes", "run": {"command": "run", "drain": "5m"}})


def test_the_registry_says_how_long_an_instance_may_drain() -> None:
    releases = [a_release(1, R.RETIRED, manifest=PATIENT), a_release(2)]
    entries = to_put(a_world(releases, [an_instance(each, 1) for each in releases]), [])
    assert [entry.drain_s for entry in entries] == [300, 30]


def test_never_more_draining_than_ready_but_for_those_that_have_long_requests() -> None:
    """A third release is ready while an instance of the first still drains: the second's may not leave for 30 s."""
    newest = a_release(3, R.STARTING, switched_at=T0)
    first, second = a_release(1, R.RETIRED, manifest=PATIENT), a_release(2)
    routes = {
        "notes-r1-1": RouteState.DRAINING,
        "notes-r2-1": RouteState.ROUTABLE,
        "notes-r3-1": RouteState.ROUTABLE,
    }

    def changes_after(seconds: float) -> list[Change]:
        draining = an_instance(first, 1, S.DRAINING, changed_at=after(100 - seconds))
        instances = [draining, an_instance(second, 1), an_instance(newest, 1)]
        return acts(a_world([first, second, newest], instances, routes=routes), NOW)

    assert changes_after(29) == []
    assert changes_after(30) == [MoveInstance("notes-r2-1", S.DRAINING, "replaced by notes-r3")]


def cut_off(*releases: Release, leaving: Instance, cut: int) -> dict[str, Release]:
    """The releases after the instance was stopped, which still had so many requests."""
    world = a_world(releases, [leaving], stopped=frozenset({leaving.id}), cut={leaving.id: cut})
    changes = plan(world, LIMITS, NOW)
    commit = apply(changes, world, {}, NOW)
    words = f"; {cut} request{'s were' if cut > 1 else ' was'} ended after 300 s (`run.drain`)" if cut else ""
    assert changes == [MoveInstance(leaving.id, S.STOPPED, f"a reason{words}", cut=cut), RecordEnd(leaving.id)]
    assert [event.reason for event in commit.events] == [f"a reason{words}"]
    return {**world.releases, **commit.releases}


@pytest.mark.parametrize("begun", [{"switched_at": T0}, {"drain_old_at": T0, "strategy": "stop-first"}])
def test_the_release_that_replaced_another_tells_which_requests_that_cut(begun: dict[str, Any]) -> None:
    old = a_release(1, R.RETIRED, manifest=PATIENT)
    new = a_release(2, previous="notes-r1", **begun)
    first = cut_off(old, new, leaving=an_instance(old, 1, S.DRAINING), cut=2)
    both = cut_off(old, first["notes-r2"], leaving=an_instance(old, 2, S.DRAINING), cut=1)
    shown = view(both["notes-r2"], NOW)
    assert (shown.cut_requests, shown.reason) == (3, "a reason; 3 requests were ended after 300 s (`run.drain`)")
    assert both["notes-r1"] == old


@pytest.mark.parametrize("environment", list(Environment))
def test_a_release_whose_instances_leave_by_themselves_tells_it_itself(environment: Environment) -> None:
    """It was aborted, rolled back, retired or stopped, or has fewer instances; the one after it began later."""
    own = a_release(1, R.ROLLED_BACK, manifest=PATIENT, environment=environment)
    later = a_release(2, R.PENDING, previous=None, environment=environment)
    after_it = cut_off(own, later, leaving=an_instance(own, 1, S.DRAINING), cut=1)
    assert view(after_it["notes-r1"], NOW).reason == "a reason; 1 request was ended after 300 s (`run.drain`)"
    assert after_it["notes-r2"].cut_requests == 0


def test_a_release_that_cut_no_request_says_nothing_of_it() -> None:
    old, new = a_release(1, R.RETIRED, manifest=PATIENT), a_release(2, previous="notes-r1", switched_at=T0)
    shown = view(cut_off(old, new, leaving=an_instance(old, 1, S.DRAINING), cut=0)["notes-r2"], NOW)
    assert (shown.cut_requests, shown.reason) == (0, "a reason")


def test_a_live_release_that_scales_down_tells_it_itself() -> None:
    live = a_release(1, manifest=PATIENT, previous="notes-r0", switched_at=T0)
    world = a_world([live], [an_instance(live, 1, S.DRAINING)])
    commit = apply([MoveInstance("notes-r1-1", S.STOPPED, "why", cut=4)], world, {}, NOW)
    assert commit.releases["notes-r1"].cut_requests == 4
