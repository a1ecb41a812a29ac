"""An ill instance of a canary is compared with production's instances over the same seconds."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from services.monitor.inventory.canary_health import CanaryHealth
from shared.models import InstanceRecord, InstanceState, Track
from shared.registry import ProbeRecord

START = datetime(2026, 1, 1, tzinfo=UTC)
EVERY_S = TIMEOUT_S = 0.9
UNHEALTHY, FAILED, READY = InstanceState.UNHEALTHY, InstanceState.FAILED, InstanceState.READY
Span = tuple[float, float]
PHASES = (0.0, 0.2, 0.5, 0.8)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def record(name: str, state: InstanceState = READY, since_s: float = -60) -> InstanceRecord:
    return InstanceRecord(
        id=name,
        release=name.rpartition("-")[0],
        commit="0" * 40,
        address="127.0.0.1:1",
        state=state,
        memory_limit=100,
        updated_at=at(since_s),
    )


def registry(*records: InstanceRecord) -> dict[str, dict[Track, list[InstanceRecord]]]:
    """Returns the registry with records of notes; those of release 9 are the canary's."""
    canary = [each for each in records if each.release == "notes-r9"]
    stable = [each for each in records if each.release != "notes-r9"]
    return {"notes": {Track.CANARY: canary, Track.STABLE: stable}}


# --- probes, second by second ----------------------------------------------------------------------------------------


@dataclass
class Probed:
    """Simulates an instance as the deployer sees it: a process that answers at once, except in the span `frozen`."""

    name: str
    phase_s: float
    frozen: Span | None = None
    steps: list[tuple[float, InstanceRecord, ProbeRecord]] = field(default_factory=list)

    def __post_init__(self) -> None:
        begun, misses, state, since = -20 + self.phase_s, 0, READY, -60.0
        times = ProbeRecord()
        while begun < 40:
            ended = self._answered_at(begun)
            is_well = ended <= begun + TIMEOUT_S
            ended = min(ended, begun + TIMEOUT_S)
            misses = 0 if is_well else misses + 1
            before, state = state, READY if is_well else UNHEALTHY if misses >= 3 else state
            since = ended if state is not before else since
            times = ProbeRecord(
                answered_at=at(begun) if is_well else times.answered_at,
                well_since=(times.well_since or at(begun)) if is_well else None,
                failing_since=None if is_well else times.failing_since or at(begun),
            )
            self.steps.append((ended, record(self.name, state, since), times))
            begun = max(begun + EVERY_S, ended)

    def _answered_at(self, begun: float) -> float:
        is_frozen = self.frozen is not None and self.frozen[0] <= begun < self.frozen[1]
        return self.frozen[1] if is_frozen and self.frozen else begun

    def seen(self, second: float) -> tuple[InstanceRecord, ProbeRecord]:
        return next((record, times) for ended, record, times in reversed(self.steps) if ended <= second)

    def turned_ill_at(self) -> float | None:
        return next((ended for ended, record, _ in self.steps if record.state is UNHEALTHY), None)


def blamed_at(canary: Probed, production: Sequence[Probed], read_at: float, *, probes: bool = True) -> float | None:
    """Returns the second in which the canary is blamed; None if it never is. The registry is read every 0.5 s, and at
    the event that the canary is unhealthy.
    """
    health = CanaryHealth()
    event_at = canary.turned_ill_at()
    readings: Iterator[float] = itertools.takewhile(lambda second: second < 30, itertools.count(read_at, 0.5))
    for second in sorted([*readings, *([event_at] if event_at is not None else [])]):
        if second == event_at:
            health.suspect("notes", "notes-r9", canary.name, UNHEALTHY, at(second), "3 misses", at(second))
        seen = {each.name: each.seen(second) for each in (canary, *production)}
        times: Mapping[str, ProbeRecord] = {name: probed for name, (_, probed) in seen.items()} if probes else {}
        health.record(registry(*(record for record, _ in seen.values())), times, at(second), ())
        reading = health.reading("notes", "notes-r9")
        if reading is not None and reading.value:
            return second
    return None


@pytest.mark.parametrize("stall_s", [2.8, 3.2, 4.0, 8.0])
@pytest.mark.parametrize("probes", [True, False])
def test_a_machine_that_stalls_blames_nobody_whatever_probe_is_late_first(stall_s: float, probes: bool) -> None:
    """Is case run/37."""
    for canary_phase, phase, read_at in itertools.product(PHASES, PHASES, (0.0, 0.3)):
        canary = Probed("notes-r9-1", canary_phase, (5.0, 5.0 + stall_s))
        production = Probed("notes-r8-1", phase, (5.0, 5.0 + stall_s))
        if stall_s >= 4:
            assert canary.turned_ill_at() is not None
        assert blamed_at(canary, [production], read_at, probes=probes) is None, (canary_phase, phase, read_at)


def test_a_canary_that_hangs_alone_is_blamed_as_soon_as_it_is_unhealthy() -> None:
    for canary_phase, phase, read_at in itertools.product(PHASES, PHASES, (0.0, 0.3)):
        canary, production = Probed("notes-r9-1", canary_phase, (5.0, 40.0)), Probed("notes-r8-1", phase)
        ill_at = canary.turned_ill_at()
        assert ill_at is not None and ill_at <= 5 + 3.6 + 0.01
        assert blamed_at(canary, [production], read_at) == ill_at, (canary_phase, phase, read_at)


def test_a_canary_that_stays_ill_after_a_stall_of_both_is_blamed_five_seconds_after_it() -> None:
    for canary_phase, phase in itertools.product(PHASES, PHASES):
        canary, production = Probed("notes-r9-1", canary_phase, (5.0, 40.0)), Probed("notes-r8-1", phase, (5.0, 9.0))
        blamed = blamed_at(canary, [production], 0.1)
        assert blamed is not None and 9 + 4 <= blamed <= 9 + 5 + 2 * 0.9 + 0.5, (canary_phase, phase)


def test_one_instance_of_production_that_is_well_is_enough() -> None:
    canary = Probed("notes-r9-1", 0.0, (5.0, 40.0))
    production = [Probed("notes-r8-1", 0.3, (5.0, 40.0)), Probed("notes-r8-2", 0.6)]
    assert blamed_at(canary, production, 0.1) == canary.turned_ill_at()


def test_without_times_of_probes_production_must_be_well_for_as_long_as_an_outage_is_unseen() -> None:
    canary, production = Probed("notes-r9-1", 0.0, (5.0, 40.0)), Probed("notes-r8-1", 0.3)
    blamed, ill_at = blamed_at(canary, [production], 0.0, probes=False), canary.turned_ill_at()
    assert blamed is not None and ill_at is not None and 4 <= blamed - ill_at <= 5.5


# --- what is known of production -------------------------------------------------------------------------------------


def judged(health: CanaryHealth) -> float | None:
    reading = health.reading("notes", "notes-r9")
    assert reading is not None
    return reading.value


@pytest.mark.parametrize("state", [UNHEALTHY, FAILED])
def test_production_without_data_is_no_excuse(state: InstanceState) -> None:
    for stable in ((), (record("notes-r8-1", InstanceState.DRAINING),)):
        health = CanaryHealth()
        health.record(registry(record("notes-r9-1", state, 1), *stable), {}, at(1), ())
        assert judged(health) == 1


def test_a_deployer_that_says_nothing_is_an_excuse_for_ten_seconds() -> None:
    health = CanaryHealth()
    health.suspect("notes", "notes-r9", "notes-r9-1", FAILED, at(0), "it ended", at(0))
    health.missed(at(9))
    assert judged(health) is None
    health.missed(at(10))
    assert judged(health) == 1


def test_production_that_is_ill_already_is_an_excuse_until_it_ends() -> None:
    health = CanaryHealth()
    health.record(registry(record("notes-r8-1", UNHEALTHY, -30)), {}, at(0), ())
    for second in range(1, 30):
        health.record(registry(record("notes-r9-1", UNHEALTHY, 1)), {}, at(second), ())  # its instance is replaced
        assert judged(health) is None
    health.forget("notes")  # people stopped it
    health.record(registry(record("notes-r9-1", UNHEALTHY, 1)), {}, at(30), ())
    assert judged(health) == 1


# --- a process that ended --------------------------------------------------------------------------------------------


def test_a_canary_that_ended_is_blamed_after_a_moment() -> None:
    health = CanaryHealth()
    health.suspect("notes", "notes-r9", "notes-r9-1", FAILED, at(1), "exit code 1", at(1))
    stable = record("notes-r8-1")
    health.record(registry(record("notes-r9-1"), stable), {}, at(1), ())
    assert judged(health) is None
    health.record(registry(stable), {}, at(1.25), ())  # the registry has dropped the canary's instance already
    reading = health.reading("notes", "notes-r9")
    assert reading is not None and (reading.value, reading.description) == (1, "exit code 1")
    assert reading.evidence == {"ill": ["notes-r9-1"], "production": "instance notes-r8-1 of production was well"}
    health.record(registry(stable), {}, at(2), ())
    assert health.reading("notes", "notes-r9") is None


@pytest.mark.parametrize("first", ["canary", "production"])
@pytest.mark.parametrize("heard", ["event", "registry"])
def test_an_end_of_both_in_the_same_seconds_blames_nobody(first: str, heard: str) -> None:
    health = CanaryHealth()
    ends = {"canary": 1.0, "production": 1.2} if first == "canary" else {"canary": 2.0, "production": 1.0}
    health.suspect("notes", "notes-r9", "notes-r9-1", FAILED, at(ends["canary"]), "exit code 1", at(ends["canary"]))
    stable = record("notes-r8-1", FAILED, ends["production"])
    if heard == "event":  # before the registry knows of it
        health.note_production("notes-r8-1", at(ends["production"]))
        stable = record("notes-r8-1")
    health.record(registry(stable), {}, at(2.3), ())
    assert judged(health) is None
    for second in range(3, 11):  # both are started again; production is the first that is ready
        health.record(registry(record("notes-r8-2", READY, 3)), {}, at(second), ())
        assert judged(health) is None
    health.record(registry(record("notes-r8-2", READY, 3), record("notes-r9-2", READY, 9)), {}, at(13), ())
    assert health.reading("notes", "notes-r9") is None


def test_what_happened_while_no_monitor_ran_is_judged_by_its_time() -> None:
    health = CanaryHealth()
    health.suspect("notes", "notes-r9", "notes-r9-1", UNHEALTHY, at(-600), "3 misses", at(0))
    times = ProbeRecord(answered_at=at(0), well_since=at(-900))
    well = registry(record("notes-r9-1", READY, -590), record("notes-r8-1", READY, -900))
    health.record(well, {"notes-r8-1": times}, at(0), ())
    assert judged(health) == 1

    health = CanaryHealth()  # production's probes failed, too, at about that time
    health.suspect("notes", "notes-r9", "notes-r9-1", UNHEALTHY, at(-600), "3 misses", at(0))
    health.record(well, {"notes-r8-1": ProbeRecord(answered_at=at(0), well_since=at(-595))}, at(0), ())
    assert judged(health) is None
    health.record(well, {"notes-r8-1": ProbeRecord(answered_at=at(1), well_since=at(-595))}, at(1), ())
    assert health.reading("notes", "notes-r9") is None


def test_an_excused_instance_is_not_judged() -> None:
    health = CanaryHealth()
    health.record(registry(record("notes-r9-1", FAILED, 0)), {}, at(0), {"notes-r9-1"})
    assert health.reading("notes", "notes-r9") is None
