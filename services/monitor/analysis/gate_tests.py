"""Tests the whole rollout for harm once, at its end. The judge's lanes, each a test for one kind of harm, test in every
window of a few seconds, which costs them statistical power. A test that is done only once finds smaller harm.
"""

import math

from services.monitor.analysis.comparison import binomial_tail
from services.monitor.analysis.effects import Effect, slow_down
from services.monitor.analysis.lanes.histogram import Buckets
from services.monitor.analysis.lanes.margins import LaneName, Margins
from services.monitor.analysis.sections import whole
from services.monitor.analysis.state import JudgeState

MOST_CHANCE = 0.005
LEAST_Z = 2.58


def failed_test(state: JudgeState, margins: Margins, buckets: Buckets) -> tuple[LaneName, Effect] | None:
    """Tests once, over the whole rollout, whether the canary has more errors and whether it is slower than production.
    Returns the kind of harm that was found, with its size; None if none was found. Each test ignores the slice of 20 s
    in which the canary was worst, so that one incident does not fail it.
    """
    section = whole(state.strata, without=state.strata.worst_for_errors())
    tests, difference = section.tests, section.tests.errors.difference()
    enough = state.visitors.enough("errors", margins, section, section)
    if difference is not None and difference >= margins.errors.harm and enough:
        chance = tests.expected_errors / tests.all_errors if tests.all_errors else 0.0
        if binomial_tail(tests.canary_errors, tests.all_errors, chance) <= MOST_CHANCE:
            return "errors", Effect(difference, section)
    section = whole(state.strata, without=state.strata.worst_for_latency())
    z = section.tests.ranks.z() / math.sqrt(state.visitors.design_effect)
    slower = slow_down(section, buckets, margins.least_ms)
    if slower and slower.value >= margins.latency.harm and z >= LEAST_Z:
        return "latency", slower
    return None
