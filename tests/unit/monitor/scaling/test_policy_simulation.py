"""The policy over time: one app that uses memory as a function of time says, looked at every 2 s."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from services.monitor.samples.sample import Sample
from services.monitor.scaling.scaling_decision import Action, Past
from services.monitor.scaling.scaling_input import Kill, ScalingInput, live_release
from services.monitor.scaling.scaling_policy import decide
from tests.support.monitor.scaled import MIB, at, change, counters, policy

Use = Callable[[float], float]  # seconds since the instance began → MiB


@dataclass
class Simulation:
    """Records the result of a simulation: limits in MiB with the second of each change, and the seconds of OOM
    kills.
    """

    changes: list[tuple[int, int]] = field(default_factory=list)
    killed_s: list[int] = field(default_factory=list)

    @property
    def limits(self) -> list[int]:
        return [limit for _, limit in self.changes]


def simulated(use: Use, seconds: int, most: int = 512) -> Simulation:
    """An instance that is killed begins anew; a limit is there as soon as it is decided."""
    result = Simulation()
    samples: deque[Sample] = deque(maxlen=151)
    past, limit, number, began_s = Past(), 64, 1, 0
    for second in range(0, seconds, 2):
        used, kills = use(second - began_s), []
        if used > limit:
            kills = [Kill(f"notes-r3-{number}", "notes-r3", limit * MIB, most * MIB)]
            result.killed_s.append(second)
            number, began_s, used = number + 1, second, use(0)
            samples.clear()
        stats = counters(f"notes-r3-{number}", used, limit, max_memory=most * MIB)
        samples.append(
            Sample(
                at=at(second),
                cpu=0,
                working_set=stats.working_set,
                memory_limit=stats.memory_limit,
                memory=used / limit,
            )
        )
        live = replace(live_release([ScalingInput(stats, list(samples), at(began_s))]), kills=kills)
        verdict = decide(live, policy(), past, at(second))
        if verdict.action is not Action.NONE:
            past = Past(None, change(second, verdict.action, verdict.from_ // MIB, verdict.to // MIB))
            limit = verdict.to // MIB
            result.changes.append((second, limit))
    return result


def test_a_leak_of_2_mb_a_second_is_followed_to_the_cap_without_a_kill_on_the_way() -> None:
    result = simulated(lambda second: 20 + 2 * second, seconds=118, most=256)
    assert result.limits == [128, 256]
    assert result.killed_s == []
    killed = simulated(lambda second: 20 + 2 * second, seconds=130, most=256)
    assert killed.limits == [128, 256], "at the cap nothing is raised any more"
    assert len(killed.killed_s) == 1


def test_what_jumps_over_its_limit_is_given_more_after_each_kill_without_a_rest() -> None:
    result = simulated(lambda second: 20 if second < 4 else 200, seconds=60)
    assert result.limits == [128, 256]
    assert len(result.killed_s) == 2
    assert result.changes[1][0] - result.changes[0][0] < policy().cooldown_s


@pytest.mark.slow
def test_an_idle_app_gives_its_memory_back_step_by_step_and_not_below_where_it_began() -> None:
    result = simulated(lambda second: 180 * math.exp(-second / 200) + 20 if second > 20 else 9 * second, seconds=7200)
    assert result.limits[-1] == 64
    assert result.limits == sorted(result.limits[: result.limits.index(max(result.limits)) + 1]) + [
        limit for limit in (128, 64) if limit < max(result.limits)
    ]
    downs = [second for (_, before), (second, limit) in pairwise(result.changes) if limit < before]
    assert len(downs) >= 2
    assert all(later - earlier >= policy().idle_s for earlier, later in pairwise(downs))


def test_a_sawtooth_does_not_flap_in_an_hour() -> None:
    result = simulated(lambda second: 25 + 35 * (second % 240) / 240, seconds=3600)
    assert result.limits == [128], "it was doubled once, and its peaks keep it there"
    assert result.killed_s == []


def test_spikes_below_three_quarters_of_the_limit_change_nothing() -> None:
    result = simulated(lambda second: 47 if second % 60 == 30 else 20, seconds=1200)
    assert result.changes == []
