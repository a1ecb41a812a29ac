from datetime import timedelta

import pytest

from services.proxy.routes.route import (
    EndpointState,
    cut_requests,
    instance_route,
    observe,
    without_drained,
    without_replaced,
)
from shared.models import InstanceState, Track
from shared.proxy_models import RouteState, SyncRequest
from tests.support.proxy.routes import NOW, endpoint, record, route

READY, UNHEALTHY, DRAINING = EndpointState.READY, EndpointState.UNHEALTHY, EndpointState.DRAINING
NOBODY: frozenset[str] = frozenset()
LATER = NOW + timedelta(seconds=5)
UP = SyncRequest(hosts=[], health="/up", health_host="notes.localhost")

# What becomes of an endpoint: (known as, registry says) → afterwards. None: not in Envoy's configuration.
OBSERVED: dict[tuple[EndpointState | None, InstanceState | None], EndpointState | None] = {
    (None, InstanceState.STARTING): None,
    (None, InstanceState.READY): READY,
    (None, InstanceState.DRAINING): None,
    (None, InstanceState.STOPPED): None,
    (None, InstanceState.UNHEALTHY): None,
    (None, InstanceState.FAILED): None,
    (READY, None): READY,
    (READY, InstanceState.STARTING): None,
    (READY, InstanceState.READY): READY,
    (READY, InstanceState.DRAINING): DRAINING,
    (READY, InstanceState.STOPPED): None,
    (READY, InstanceState.UNHEALTHY): UNHEALTHY,
    (READY, InstanceState.FAILED): None,
    (UNHEALTHY, None): UNHEALTHY,
    (UNHEALTHY, InstanceState.STARTING): None,
    (UNHEALTHY, InstanceState.READY): READY,
    (UNHEALTHY, InstanceState.DRAINING): DRAINING,
    (UNHEALTHY, InstanceState.STOPPED): None,
    (UNHEALTHY, InstanceState.UNHEALTHY): UNHEALTHY,
    (UNHEALTHY, InstanceState.FAILED): None,
    (DRAINING, None): DRAINING,
    (DRAINING, InstanceState.STARTING): None,
    (DRAINING, InstanceState.READY): READY,
    (DRAINING, InstanceState.DRAINING): DRAINING,
    (DRAINING, InstanceState.STOPPED): None,
    (DRAINING, InstanceState.UNHEALTHY): UNHEALTHY,
    (DRAINING, InstanceState.FAILED): None,
}


@pytest.mark.parametrize(("known", "said"), list(OBSERVED))
def test_what_the_registry_says_becomes_of_what_is_known(
    known: EndpointState | None, said: InstanceState | None
) -> None:
    before = {"notes-r1-1": endpoint("notes-r1-1", known)} if known else {}
    after = observe(before, [record("notes-r1-1", said)] if said else [], NOBODY, UP, LATER)
    expected = OBSERVED[known, said]
    assert [item.state for item in after.values()] == ([expected] if expected else [])
    if expected and expected is known:
        assert after["notes-r1-1"].since == NOW


def test_an_aborted_release_drains_whatever_its_entry_says_and_never_comes_back() -> None:
    aborted = frozenset({"notes-r2"})
    known = {"notes-r2-1": endpoint("notes-r2-1")}
    after = observe(known, [record("notes-r2-1"), record("notes-r2-2")], aborted, UP, LATER)
    assert {key: item.state for key, item in after.items()} == {"notes-r2-1": DRAINING}
    assert observe({}, [record("notes-r2-1")], aborted, UP, LATER) == {}


@pytest.mark.parametrize(
    ("active", "seconds", "stays"),
    [
        ({"127.0.0.1:20000": 0}, 1, False),
        ({"127.0.0.1:20000": 1}, 1, True),
        ({}, 1, True),  # not seen is not idle
        ({}, 30, False),
    ],
)
def test_a_draining_endpoint_leaves_when_idle_or_after_30_s(active: dict[str, int], seconds: int, stays: bool) -> None:
    known = {"notes-r1-1": endpoint("notes-r1-1", DRAINING), "notes-r2-1": endpoint("notes-r2-1", port=20001)}
    after = without_drained(known, frozenset({"notes-r1-1"}), active, NOW + timedelta(seconds=seconds))
    assert ("notes-r1-1" in after) is stays
    assert "notes-r2-1" in after


@pytest.mark.parametrize(("seconds", "stays"), [(299, True), (300, False)])
def test_an_endpoint_drains_for_as_long_as_its_own_release_says(seconds: int, stays: bool) -> None:
    known = observe({}, [record("notes-r1-1").model_copy(update={"drain_s": 300})], NOBODY, UP, NOW)
    draining = record("notes-r1-1", InstanceState.DRAINING).model_copy(update={"drain_s": 300})
    known = observe(known, [draining], NOBODY, None, NOW)
    busy = {"127.0.0.1:20000": 3}
    after = without_drained(known, frozenset(known), busy, NOW + timedelta(seconds=seconds))
    assert ("notes-r1-1" in after) is stays
    assert cut_requests(known, after, busy) == ({} if stays else {"notes-r1-1": 3})


@pytest.mark.parametrize("active", [{}, {"127.0.0.1:20000": 0}])
def test_an_endpoint_that_leaves_without_a_request_cuts_none(active: dict[str, int]) -> None:
    assert cut_requests({"notes-r1-1": endpoint("notes-r1-1", DRAINING)}, {}, active) == {}


def test_what_envoy_was_not_told_to_drain_stays() -> None:
    known = {"notes-r1-1": endpoint("notes-r1-1", DRAINING)}
    assert without_drained(known, NOBODY, {"127.0.0.1:20000": 0}, NOW) == known


def test_a_lost_entry_whose_address_another_has_is_left_out() -> None:
    known = observe({"notes-r1-1": endpoint("notes-r1-1")}, [], NOBODY, None, NOW)
    assert without_replaced(known, {"127.0.0.1:20001"}.__contains__) == known
    assert without_replaced(known, {"127.0.0.1:20000"}.__contains__) == {}


@pytest.mark.parametrize(
    ("stable", "canary", "rollout", "weight"),
    [
        (READY, READY, "notes-r2", 33),
        (READY, READY, None, 0),
        (DRAINING, READY, "notes-r2", 0),
        (UNHEALTHY, READY, "notes-r2", 0),
        (READY, DRAINING, "notes-r2", 0),
        (READY, UNHEALTHY, "notes-r2", 33),  # Envoy fails over; the routes need not change
    ],
)
def test_there_is_a_split_only_with_both_tracks_and_a_rollout(
    stable: EndpointState, canary: EndpointState, rollout: str | None, weight: int
) -> None:
    given = route(endpoint("notes-r1-1", stable), canary=(endpoint("notes-r2-1", canary),), rollout=rollout)
    assert given.split_weight() == weight
    assert given.model_copy(update={"enabled": False}).split_weight() == 0


@pytest.mark.parametrize("health", ["/healthz", "tcp", ""])
def test_the_health_check_is_that_of_the_newest_ready_release(health: str) -> None:
    old = endpoint("notes-r9-1")
    new = endpoint("notes-r10-1").model_copy(update={"health": health})
    assert route(old, new).health_of(Track.STABLE) == health
    assert route(old, new.model_copy(update={"state": DRAINING})).health_of(Track.STABLE) == "/up"


def test_an_unhealthy_instance_counts_as_absent() -> None:
    states = [None, *(endpoint("notes-r1-1", state) for state in EndpointState)]
    routes = [instance_route(item) for item in states]
    assert routes == [RouteState.ABSENT, RouteState.ROUTABLE, RouteState.ABSENT, RouteState.DRAINING]


@pytest.mark.parametrize("first", ["/healthz", "tcp", ""])
def test_an_endpoint_keeps_the_check_that_the_first_sync_gave_it(first: str) -> None:
    known = observe({}, [record("notes-r1-1")], NOBODY, None, NOW)
    assert known["notes-r1-1"].health is None
    given = UP.model_copy(update={"health": first, "health_host": "shop.example.com"})
    for sync in (given, UP, None):
        known = observe(known, [record("notes-r1-1")], NOBODY, sync, NOW)
        assert (known["notes-r1-1"].health, known["notes-r1-1"].health_host) == (first, "shop.example.com")


@pytest.mark.parametrize("back", [timedelta(hours=1), timedelta(days=365)])
def test_after_a_clock_was_set_back_an_endpoint_does_not_drain_for_ever(back: timedelta) -> None:
    draining = {"notes-r1-1": endpoint("notes-r1-1", DRAINING)}
    busy = {"127.0.0.1:20000": 1}
    assert without_drained(draining, frozenset(draining), busy, NOW) == draining
    assert without_drained(draining, frozenset(draining), busy, NOW - back) == {}
