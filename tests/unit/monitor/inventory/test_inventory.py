"""The inventory knows which release of production is live, and how healthy its instances are."""

from datetime import UTC, datetime, timedelta

import pytest

from services.monitor.inventory.inventory import Inventory
from services.monitor.inventory.live_releases import LiveReleases
from services.monitor.inventory.live_store import LiveStore
from shared.models import Environment, InstanceRecord, InstanceState, Track
from shared.store import connect

AT = datetime(2026, 1, 1, tzinfo=UTC)
PRODUCTION, CANARY = Environment.PRODUCTION, Environment.CANARY


def new_inventory() -> Inventory:
    return Inventory(LiveReleases(LiveStore(connect("redis://127.0.0.1:1/0"))))  # which these tests do not ask


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def registry(states: dict[str, str], track: Track = Track.STABLE) -> dict[str, dict[Track, list[InstanceRecord]]]:
    """`r8-1`: instance notes-r8-1."""
    records = [
        InstanceRecord(
            id=f"notes-{name}",
            release=f"notes-{name.split('-')[0]}",
            commit="0" * 40,
            address="127.0.0.1:1",
            state=InstanceState(state),
            memory_limit=100,
            updated_at=AT,
        )
        for name, state in states.items()
    ]
    return {"notes": {track: records}}


@pytest.mark.parametrize(
    ("states", "live"),
    [
        ({"r8-1": "ready"}, "notes-r8"),
        ({"r9-1": "ready", "r10-1": "ready"}, "notes-r10"),  # by number, not by letter
        ({"r8-1": "ready", "r9-1": "unhealthy"}, "notes-r8"),
        ({"r8-1": "draining", "r9-1": "ready"}, "notes-r9"),
        ({"r9-1": "failed"}, "notes-r7"),
        ({}, "notes-r7"),
    ],
)
def test_the_newest_ready_release_is_live_or_the_one_before(states: dict[str, str], live: str) -> None:
    inventory = new_inventory()
    inventory.record(registry({"r7-1": "ready"}), at(0))
    inventory.record(registry(states), at(1))
    assert inventory.live("notes") == live
    inventory.missed(at(2))
    inventory.record({}, at(2))
    assert (inventory.live("notes"), inventory.apps()) == (live, {"notes"})
    inventory.end(live)
    assert (inventory.live("notes"), inventory.apps()) == (None, set())


def test_a_canary_is_not_production() -> None:
    inventory = new_inventory()
    inventory.record(registry({"r9-1": "ready", "r9-2": "failed"}, Track.CANARY), at(0))
    assert (inventory.live("notes"), inventory.with_canary()) == (None, {"notes"})
    assert inventory.ready_instances("notes", CANARY, "notes-r9") == ["notes-r9-1"]
    assert inventory.health("notes", CANARY, "notes-r9", at(0)).description == "instance notes-r9-2 is failed"
    assert inventory.health("notes", PRODUCTION, "notes-r9", at(0)).value is None


@pytest.mark.parametrize(
    ("states", "value"),
    [
        ({"r8-1": "ready", "r8-2": "ready"}, 0),
        ({"r8-1": "ready", "r8-2": "unhealthy"}, 1),
        ({"r8-1": "failed", "r8-2": "unhealthy"}, 2),
        ({"r8-1": "ready", "r9-1": "failed"}, 0),
        ({"r9-1": "starting"}, None),
    ],
)
def test_health_counts_the_ill_ones(states: dict[str, str], value: float | None) -> None:
    inventory = new_inventory()
    inventory.record(registry(states), at(0))
    assert inventory.health("notes", PRODUCTION, "notes-r8", at(0)).value == value
    inventory.missed(at(1))
    assert inventory.health("notes", PRODUCTION, "notes-r8", at(0)).value is None


def test_nothing_at_all_counts_after_five_seconds() -> None:
    inventory = new_inventory()
    inventory.record(registry({"r8-1": "ready"}), at(0))
    values = []
    for second in range(1, 8):
        inventory.record({}, at(second))
        values.append(inventory.health("notes", PRODUCTION, "notes-r8", at(second)).value)
    assert values == [None, None, None, None, None, 1, 1]
    inventory.missed(at(15))
    inventory.record({}, at(20))
    assert inventory.health("notes", PRODUCTION, "notes-r8", at(20)).value is None  # counted anew


def test_an_excused_instance_is_not_ill_for_ten_minutes() -> None:
    inventory = new_inventory()
    inventory.excuse("notes-r8-1", at(0))
    for second, value in ((0, 0), (599, 0), (600, 1)):
        inventory.record(registry({"r8-1": "failed"}), at(second))
        assert inventory.health("notes", PRODUCTION, "notes-r8", at(second)).value == value


def test_what_is_remembered_gives_way_to_what_is_known() -> None:
    inventory = new_inventory()
    inventory.record(registry({"r9-1": "ready"}), at(0))
    inventory.remember("notes", "notes-r8")
    inventory.remember("other", "other-r1")
    assert (inventory.live("notes"), inventory.live("other")) == ("notes-r9", "other-r1")
