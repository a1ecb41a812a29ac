"""The input of a decision is computed from instances' figures: the live release, growth, gaps, OOM kills."""

import pytest

from services.monitor.scaling.scaling_input import Kill, OomKillCounter, ScalingInput, count_kills, live_release
from shared.models import InstanceState
from tests.support.monitor.scaled import MIB, at, instance, live

READY, STARTING, DRAINING, FAILED = (
    InstanceState.READY,
    InstanceState.STARTING,
    InstanceState.DRAINING,
    InstanceState.FAILED,
)


@pytest.mark.parametrize(
    ("states", "release", "ids", "under_way"),
    [
        ({}, "", [], False),
        ({"notes-r3-1": READY}, "notes-r3", ["notes-r3-1"], False),
        ({"notes-r3-1": READY, "notes-r3-2": STARTING}, "notes-r3", ["notes-r3-1", "notes-r3-2"], False),
        ({"notes-r3-1": STARTING}, "notes-r3", ["notes-r3-1"], True),
        ({"notes-r3-1": READY, "notes-r4-1": STARTING}, "notes-r3", ["notes-r3-1"], True),
        ({"notes-r9-1": READY, "notes-r10-1": READY}, "notes-r9", ["notes-r9-1"], True),
        ({"notes-r3-1": DRAINING, "notes-r4-1": READY}, "notes-r4", ["notes-r4-1"], False),
        ({"notes-r3-1": FAILED, "notes-r4-1": READY}, "notes-r4", ["notes-r4-1"], False),
        ({"notes-r3-1": STARTING, "notes-r4-1": READY}, "notes-r4", ["notes-r4-1"], True),
        ({"notes-r3-1": DRAINING}, "", [], False),
    ],
)
def test_the_live_release_is_the_oldest_that_serves(
    states: dict[str, InstanceState], release: str, ids: list[str], under_way: bool
) -> None:
    found = live_release(instance([10], id=name, state=state) for name, state in states.items())
    assert (found.release, [item.id for item in found.instances], found.under_way) == (release, ids, under_way)


def test_an_instance_without_a_limit_is_left_out() -> None:
    unlimited = instance([10]).stats.model_copy(update={"memory_limit": 0})
    assert live(ScalingInput(unlimited, [])).instances == []


def test_growth_is_bytes_per_second_over_the_last_samples() -> None:
    assert instance([0, 10, 12, 18]).growth(3) == 2 * MIB
    assert instance([0, 10, 12, 18]).growth(4) == 3 * MIB
    assert instance([18, 12]).growth(2) == -3 * MIB
    assert instance([10, 12]).growth(3) is None
    assert instance([10, 12, 18], ready_s=597).growth(3) is None


def test_covered_time_ends_at_the_last_gap() -> None:
    whole = instance([10.0] * 31)
    assert whole.covered_s(at(600)) == 60
    assert whole.covered_s(at(604)) == 64
    assert whole.covered_s(at(606)) == 0  # nothing is known of the last seconds
    holed = instance([10.0] * 31)
    assert len(holed.last(31)) == 31
    samples = [sample for sample in holed.samples if not at(569) < sample.at < at(575)]
    assert type(holed)(holed.stats, samples).covered_s(at(600)) == 24


# --- OOM kills ------------------------------------------------------------------------------------------------------


def kills(known: dict[str, int], now: dict[str, int]) -> list[str]:
    """Names of instances by which kills show; the known ones had 64 MiB, and 128 now."""
    before = {name: OomKillCounter(count, 64 * MIB) for name, count in known.items()}
    instances = [instance([10], 128, id=name, oom_kills=count) for name, count in now.items()]
    after, found = count_kills(before, instances)
    assert {name: after[name] for name in now} == {
        name: OomKillCounter(count, 128 * MIB) for name, count in now.items()
    }
    assert all(kill == Kill(kill.instance, "r", 64 * MIB, 512 * MIB) for kill in found)
    return [kill.instance for kill in found]


@pytest.mark.parametrize(
    ("known", "now", "expected"),
    [
        ({}, {"r-1": 3}, []),  # seen for the first time
        ({"r-1": 0}, {"r-1": 0}, []),
        ({"r-1": 0}, {"r-1": 1}, ["r-1"]),  # a child of the app
        ({"r-1": 0}, {"r-2": 1}, ["r-2"]),  # replaced after an OOM kill
        ({"r-1": 2}, {"r-2": 2}, []),  # replaced after a crash
        ({"r-1": 0, "r-2": 0}, {"r-1": 0, "r-2": 0, "r-3": 0}, []),  # one more replica
        ({"r-1": 5, "r-2": 0}, {"r-3": 5, "r-4": 1}, ["r-4"]),
        ({"r-1": 5, "r-2": 0}, {"r-4": 1, "r-3": 6}, ["r-4", "r-3"]),
        ({"r-1": 2, "r-2": 0}, {"r-2": 0}, []),  # one is gone, for a moment or for good
    ],
)
def test_what_an_instance_counts_on_is_no_kill_of_its_own(
    known: dict[str, int], now: dict[str, int], expected: list[str]
) -> None:
    assert kills(known, now) == expected


def test_a_count_is_remembered_while_nothing_runs() -> None:
    counters, _ = count_kills({"r-1": OomKillCounter(2, MIB)}, [])
    assert count_kills(counters, [instance([10], id="r-2", oom_kills=2)])[1] == []
    assert len(count_kills(counters, [instance([10], id="r-2", oom_kills=3)])[1]) == 1
    again, _ = count_kills(counters, [instance([10], id="r-2", oom_kills=3)])
    assert set(again) == {"r-2"}  # the one that it replaced counts for nobody else
