"""Tests when a memory limit is doubled or halved, and why it stays: one look at a time."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from services.monitor.scaling.scaling_decision import Action, Cause, DecisionState, Past, ScalingVerdict
from services.monitor.scaling.scaling_input import Kill, LiveRelease, ScalingInput
from services.monitor.scaling.scaling_policy import PolicyBody, decide, outdated, still_idle
from shared.models import InstanceState
from tests.support.monitor.scaled import MIB, at, change, counters, instance, live, policy

NOW = at(600)
IDLE = [10.0] * 151  # five minutes
KILL = Kill("notes-r3-1", "notes-r3", 64 * MIB, 512 * MIB)


def decided(*instances: ScalingInput, past: Past = Past(), **changes: Any) -> ScalingVerdict:  # noqa: B008
    return decide(live(*instances), policy(**changes), past, NOW)


def mib(verdict: ScalingVerdict) -> tuple[Action, Cause, float, float]:
    return verdict.action, verdict.cause, verdict.from_ / MIB, verdict.to / MIB


UP, DOWN, NONE = Action
STAYS = (NONE, Cause.WITHIN_BAND, 64, 64)


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ([55, 55, 55], (UP, Cause.FULL, 64, 128)),
        ([54.4, 54.4, 54.4], (UP, Cause.FULL, 64, 128)),  # 85 %, inclusive
        ([54.3, 54.4, 54.4], STAYS),
        ([55, 55], STAYS),
        ([60, 60, 20], STAYS),  # a spike that is over
        ([20, 60, 61], (UP, Cause.FULL_SOON, 64, 128)),  # grows by 10 MiB/s
        ([20, 63, 20], STAYS),
        ([44, 46, 48], (NONE, Cause.WITHIN_BAND, 64, 64)),  # at the limit in 16 s
        ([36, 42, 48], (UP, Cause.FULL_SOON, 64, 128)),  # in 5.3 s
        ([44, 48, 52], (UP, Cause.FULL_SOON, 64, 128)),  # in 6 s, inclusive
        ([43.9, 47.8, 51.7], STAYS),  # in 6.3 s
        ([20, 30, 47], STAYS),  # below 75 %
        ([60, 56, 52], STAYS),  # falls
        ([52, 52, 52], STAYS),
        ([64, 64, 64], (UP, Cause.FULL, 64, 128)),
    ],
)
def test_use_and_growth(used: list[float], expected: tuple[Any, ...]) -> None:
    assert mib(decided(instance(used))) == expected


def test_the_words_name_instance_use_and_limit() -> None:
    full = decided(instance([56, 56, 56]))
    assert full.reason == "notes-r3-1 uses 56 of 64 MiB (88 %), 3 samples running at 85 % or more: 64 → 128 MiB"
    soon = decided(instance([44, 48, 52]))
    assert soon.reason == (
        "notes-r3-1 uses 52 of 64 MiB (81 %) and grows by 2 MiB a second, at its limit in 6 s: 64 → 128 MiB"
    )
    calm = decided(instance([16.5]))
    assert calm.reason == "notes-r3-1 uses 16.5 of 64 MiB (26 %), the most of its one instance"


def test_samples_from_before_it_was_ready_are_no_growth() -> None:
    used = [10.0, 30, 50, 50]
    assert decided(instance(used, ready_s=0)).cause is Cause.FULL_SOON
    assert decided(instance(used, ready_s=598)).cause is Cause.WITHIN_BAND
    assert decided(instance(used, ready_s=None)).cause is Cause.WITHIN_BAND


def test_samples_with_a_gap_between_them_do_not_run_on() -> None:
    whole = instance([56] * 4)
    holed = replace(whole, samples=[*whole.samples[:2], whole.samples[3]])
    assert decided(holed).cause is Cause.FULL  # one is missing: 4 s
    assert decided(replace(whole, samples=[instance([56], now_s=590).samples[0], *whole.samples[2:]])).action is NONE


@pytest.mark.parametrize(
    ("pressure", "cause"),
    [(None, Cause.WITHIN_BAND), (9.9, Cause.WITHIN_BAND), (10.0, Cause.PRESSURE), (80.0, Cause.PRESSURE)],
)
def test_waiting_for_memory(pressure: float | None, cause: Cause) -> None:
    verdict = decided(instance([30, 30, 30], memory_pressure=pressure))
    assert verdict.cause is cause
    assert verdict.to == (128 if cause is Cause.PRESSURE else 64) * MIB


def test_any_instance_can_ask_and_the_fullest_is_named() -> None:
    instances = [instance([used] * 3, id=f"notes-r3-{number}") for number, used in ((1, 12), (2, 58), (3, 56))]
    verdict = decided(*instances)
    assert (verdict.cause, verdict.to) == (Cause.FULL, 128 * MIB)
    assert verdict.reason.startswith("notes-r3-2 uses 58 of 64 MiB")
    assert [item.id for item in verdict.inputs] == ["notes-r3-1", "notes-r3-2", "notes-r3-3"]


def test_what_one_instance_asks_for_takes_nothing_from_another() -> None:
    behind = instance([60] * 3)
    assert mib(decided(behind, instance([20] * 3, limit=128, id="notes-r3-2"))) == (UP, Cause.FULL, 64, 128)
    assert mib(decided(behind, instance([20] * 3, limit=256, id="notes-r3-2"))) == (UP, Cause.FULL, 64, 256)


@pytest.mark.parametrize(("limit", "to"), [(256, 300), (299, 300), (128, 256)])
def test_it_goes_to_the_maximum_at_most(limit: int, to: int) -> None:
    verdict = decided(instance([0.9 * limit] * 3, limit=limit, max_memory=300 * MIB))
    assert (verdict.action, verdict.to) == (UP, to * MIB)


def test_at_the_cap_it_stays_and_says_so() -> None:
    verdict = decided(instance([500] * 3, limit=512))
    assert mib(verdict) == (NONE, Cause.AT_CAP, 512, 512)
    assert "512 MiB is the most that resources.max_memory allows" in verdict.reason
    killed = decide(replace(LiveRelease("notes-r3"), kills=[replace(KILL, limit=512 * MIB)]), policy(), Past(), NOW)
    assert mib(killed) == (NONE, Cause.AT_CAP, 512, 512)


@pytest.mark.parametrize(("ago", "cause"), [(29.9, Cause.COOLDOWN), (30, Cause.FULL)])
def test_the_cool_down(ago: float, cause: Cause) -> None:
    past = Past(None, change(600 - ago))
    verdict = decided(instance([120] * 3, limit=128), past=past)
    assert verdict.cause is cause
    if cause is Cause.COOLDOWN:
        assert verdict.reason.endswith("asks for 128 → 256 MiB; the last change is 30 s ago, 30 s must pass")


def test_the_cool_down_begins_when_the_change_was_made() -> None:
    late = change(500, settled_at=at(580))
    assert decided(instance([120] * 3, limit=128), past=Past(None, late)).cause is Cause.COOLDOWN


@pytest.mark.parametrize("state", [DecisionState.REFUSED, DecisionState.SUPERSEDED])
def test_a_change_that_was_not_made_is_not_asked_for_at_once_again(state: DecisionState) -> None:
    past = Past(None, change(590, state=state))
    assert decided(instance([60] * 3), past=past).cause is Cause.COOLDOWN


# --- OOM kills ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("instances", [[], [instance([8], state=InstanceState.STARTING)], [instance([8, 8, 8])]])
def test_an_oom_kill_doubles_at_once(instances: list[ScalingInput]) -> None:
    past = Past(None, change(599))
    verdict = decide(replace(live(*instances), release="notes-r3", kills=[KILL]), policy(), past, NOW)
    assert mib(verdict) == (UP, Cause.OOM_KILL, 64, 128)
    assert verdict.reason == ("notes-r3-1 was killed for want of memory (OOM) at its limit of 64 MiB: 64 → 128 MiB")


def test_an_oom_kill_is_answered_while_a_release_is_under_way() -> None:
    starting = instance([60] * 3, id="notes-r4-1", state=InstanceState.STARTING)
    both = live(instance([60] * 3), starting)
    held = decide(both, policy(), Past(), NOW)
    assert (held.cause, held.release) == (Cause.RELEASE_UNDER_WAY, "notes-r3")
    assert decide(replace(both, kills=[KILL]), policy(), Past(), NOW).cause is Cause.OOM_KILL


def test_of_several_kills_the_one_with_the_highest_limit_counts() -> None:
    kills = [KILL, replace(KILL, limit=128 * MIB)]
    assert decide(LiveRelease("notes-r3", kills=kills), policy(), Past(), NOW).to == 256 * MIB


# --- whose figures count --------------------------------------------------------------------------------------------


def test_other_releases_and_draining_instances_count_for_nothing() -> None:
    full: dict[str, Any] = {"used": [60] * 3, "limit": 64}
    old = instance(**full, id="notes-r3-1", state=InstanceState.DRAINING)
    failed = instance(**full, id="notes-r4-1", state=InstanceState.FAILED)
    live = instance([20] * 3, id="notes-r4-2")
    verdict = decided(old, failed, live)
    assert (verdict.cause, verdict.release) == (Cause.WITHIN_BAND, "notes-r4")
    assert [item.id for item in verdict.inputs] == ["notes-r4-2"]


@pytest.mark.parametrize("state", [InstanceState.READY, InstanceState.STARTING])
def test_while_a_release_starts_nothing_is_decided_that_somebody_asks_for(state: InstanceState) -> None:
    coming = instance([20] * 3, id="notes-r10-1", state=state)  # r10 is newer than r9
    for used, cause in ((60, Cause.RELEASE_UNDER_WAY), (20, Cause.WITHIN_BAND)):
        verdict = decided(coming, instance([used] * 3, id="notes-r9-1"))
        assert (verdict.action, verdict.cause, verdict.release) == (NONE, cause, "notes-r9")


def test_before_the_first_instance_serves_nothing_is_decided() -> None:
    verdict = decided(instance([60] * 3, state=InstanceState.STARTING))
    assert (verdict.cause, verdict.reason) == (Cause.RELEASE_UNDER_WAY, "no instance of notes-r3 serves yet")


def test_an_unhealthy_instance_still_asks() -> None:
    assert decided(instance([60] * 3, state=InstanceState.UNHEALTHY)).cause is Cause.FULL


def test_without_figures_nothing_is_decided() -> None:
    assert decide(LiveRelease("notes-r3"), policy(), Past(), NOW).cause is Cause.NO_DATA
    old = decided(instance([60] * 3, now_s=585))
    assert (old.cause, old.reason) == (Cause.NO_DATA, "no instance gave a sample for 15 s")


def test_a_policy_that_is_not_enabled_says_what_it_would_have_done() -> None:
    verdict = decided(instance([56] * 3), enabled=False)
    assert mib(verdict) == (NONE, Cause.DISABLED, 64, 64)
    assert verdict.reason.endswith("asks for 64 → 128 MiB; the policy is not enabled")
    assert decided(instance([20] * 3), enabled=False).cause is Cause.WITHIN_BAND
    assert decided(instance(IDLE, limit=128), enabled=False).cause is Cause.DISABLED


# --- down -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "top", "expected"),
    [
        (128, 25.5, (DOWN, Cause.IDLE, 128, 64)),
        (128, 25.6, (NONE, Cause.USE_TOO_HIGH, 128, 128)),  # 40 % of 64
        (512, 100, (DOWN, Cause.IDLE, 512, 256)),
        (100, 20, (DOWN, Cause.IDLE, 100, 64)),  # not below min_memory
        (64, 10, (NONE, Cause.WITHIN_BAND, 64, 64)),
    ],
)
def test_down_to_the_half_when_the_highest_use_is_low(limit: int, top: float, expected: tuple[Any, ...]) -> None:
    used = [*IDLE[:70], top, *IDLE[71:]]
    assert mib(decided(instance(used, limit=limit))) == expected


def test_its_words() -> None:
    assert decided(instance([*IDLE[:-5], 20, *IDLE[-4:]], limit=128)).reason == (
        "notes-r3-1 used most in 300 s, 20 MiB, below 40 % of 64 MiB: 128 → 64 MiB"
    )
    assert decided(instance([*IDLE[:-5], 90, *IDLE[-4:]], limit=128)).reason == (
        "notes-r3-1 used 90 MiB within 300 s, not below 40 % of 64 MiB"
    )


def test_use_that_is_high_now_does_not_ask_to_go_down() -> None:
    assert decided(instance([*IDLE[:-1], 26], limit=128)).cause is Cause.WITHIN_BAND


def test_what_was_high_before_the_five_minutes_does_not_count() -> None:
    assert decided(instance([100, 100, *IDLE], limit=128)).action is DOWN


def test_every_instance_must_be_idle() -> None:
    idle, busy = instance(IDLE, limit=128), instance([*IDLE[:9], 60, *IDLE[10:]], limit=128, id="notes-r3-2")
    assert decided(idle, busy).cause is Cause.USE_TOO_HIGH
    assert decided(idle, instance(IDLE, limit=128, id="notes-r3-2")).action is DOWN


@pytest.mark.parametrize("missing", [slice(0, 4), slice(60, 63), slice(148, 151)])
def test_a_gap_in_the_samples_is_no_good_news(missing: slice) -> None:
    whole = instance(IDLE, limit=128)
    samples = list(whole.samples)
    del samples[missing]
    verdict = decided(replace(whole, samples=samples))
    assert (verdict.action, verdict.cause) == (NONE, Cause.NO_DATA)
    one_missing = [sample for index, sample in enumerate(whole.samples) if index != 70]
    assert decided(replace(whole, samples=one_missing)).action is DOWN


def test_an_instance_that_was_replaced_has_yet_to_show_that_it_is_idle() -> None:
    verdict = decided(instance(IDLE, limit=128), instance([10] * 61, limit=128, id="notes-r3-3"))
    assert verdict.cause is Cause.NO_DATA
    assert "the samples of notes-r3-3 cover 120 of 300 s" in verdict.reason
    starting = instance([10] * 3, limit=128, id="notes-r3-3", state=InstanceState.STARTING)
    assert decided(instance(IDLE, limit=128), starting).cause is Cause.NO_DATA


def test_an_oom_kill_within_the_five_minutes_is_no_idleness() -> None:
    whole = instance(IDLE, limit=128)
    assert decided(replace(whole, stats=whole.stats.model_copy(update={"oom_kills": 1}))).cause is Cause.USE_TOO_HIGH


@pytest.mark.parametrize(("ago", "cause"), [(299, Cause.SETTLING), (300, Cause.IDLE)])
def test_after_a_change_it_waits_five_minutes(ago: float, cause: Cause) -> None:
    assert decided(instance(IDLE, limit=128), past=Past(None, change(600 - ago))).cause is cause


# --- what is open ---------------------------------------------------------------------------------------------------

OPEN_UP = change(595, state=DecisionState.DECIDED)
OPEN_DOWN = change(595, DOWN, 128, 64, state=DecisionState.DECIDED)


def test_an_open_decision_is_carried_out_while_it_fits() -> None:
    assert outdated(OPEN_UP, live(instance([60] * 3)), policy(), NOW) is None
    assert outdated(OPEN_UP, LiveRelease(""), policy(), at(5000)) is None  # nothing runs at the moment: killed
    half_done = live(instance([20], 128), instance([60], id="notes-r3-2"))
    assert outdated(OPEN_UP, half_done, policy(), NOW) is None
    assert outdated(OPEN_DOWN, live(instance([20], 128)), policy(), NOW) is None


def test_an_open_decision_that_does_not_fit_any_more() -> None:
    superseded = DecisionState.SUPERSEDED
    low = live(instance([10], 64))
    assert outdated(OPEN_UP, live(instance([60], 128)), policy(), NOW) == (
        DecisionState.APPLIED,
        "every instance has that limit already",
    )
    assert outdated(OPEN_UP, live(instance([60], id="notes-r4-1")), policy(), NOW) == (
        superseded,
        "notes-r4 is live now",
    )
    assert outdated(OPEN_UP, live(instance([60], 256)), policy(), NOW) == (
        superseded,
        "the limit was raised to 256 MiB meanwhile",
    )
    assert outdated(OPEN_DOWN, live(instance([10], 256)), policy(), NOW) is not None
    assert outdated(OPEN_UP, low, policy(enabled=False), NOW) == (superseded, "the policy was disabled meanwhile")
    assert outdated(OPEN_DOWN, live(instance([10], 128)), policy(), at(896)) == (
        superseded,
        "the figures that it was decided on are too old",
    )
    assert outdated(OPEN_UP, live(instance([60])), policy(), at(5000)) is None


def test_use_is_read_again_before_going_down() -> None:
    assert still_idle(OPEN_DOWN, [counters(used=25.5), counters("notes-r3-2", used=3)], policy()) is None
    assert still_idle(OPEN_DOWN, [counters(used=3), counters("notes-r3-2", used=26)], policy()) == (
        "read again, notes-r3-2 uses 26 MiB, not below 40 % of 64 MiB"
    )
    assert still_idle(OPEN_DOWN, [], policy()) == "no instance of notes-r3 gives figures"


# --- the policy itself ----------------------------------------------------------------------------------------------


def test_the_defaults() -> None:
    assert PolicyBody().model_dump() == {
        "enabled": True,
        "up": 0.85,
        "up_soon": 0.75,
        "down": 0.4,
        "samples": 3,
        "horizon_s": 6,
        "pressure": 10,
        "cooldown_s": 30,
        "idle_s": 300,
    }


@pytest.mark.parametrize(
    ("given", "field", "remedy"),
    [
        ({"down": 0.43}, "down", "lower down below 0.425, or raise up"),
        ({"down": 0.425}, "down", "would flap"),
        ({"up": 0.7, "up_soon": 0.6}, "down", "lower down below 0.35"),  # the default of down, too
        ({"up_soon": 0.9}, "up_soon", "lower up_soon, or raise up"),
        ({"up": 0.81, "up_soon": 0.82}, "up_soon", "is above up"),
        ({"up": 1.1}, "up", "less than or equal to 1"),
        ({"up": float("nan")}, "up", ""),
        ({"idle_s": 301}, "idle_s", "300"),
        ({"cooldown_s": 0}, "cooldown_s", "10"),
        ({"max": 3}, "max", "not permitted"),
    ],
)
def test_bounds(given: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PolicyBody.model_validate(given)
    faults = {fault["loc"][0]: fault["msg"] for fault in caught.value.errors()}
    assert remedy in faults[field]


def test_a_policy_of_ones_own_is_what_counts() -> None:
    assert decided(instance([40] * 3), up=0.6, up_soon=0.6, down=0.2).cause is Cause.FULL
    assert decided(instance([56] * 3), samples=4).cause is Cause.WITHIN_BAND
    assert decided(instance([44, 46, 48]), horizon_s=20).cause is Cause.FULL_SOON
    assert decided(instance([20] * 3, memory_pressure=4.0), pressure=3).cause is Cause.PRESSURE
    past = Past(None, change(540))
    assert decided(instance([120] * 3, limit=128), past=past, cooldown_s=120).cause is Cause.COOLDOWN
    assert decided(instance([10] * 31, limit=128), past=past, idle_s=60).action is DOWN
