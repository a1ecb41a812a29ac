"""Whose errors fail a canary, and how much the requests of one visitor count."""

import pytest

from services.monitor.analysis.lanes.margins import LaneName, Margins
from services.monitor.analysis.sections import Section, newest, whole
from services.monitor.analysis.strata import Strata
from services.monitor.analysis.visitors import JudgedVisitors, VisitorCounter
from services.monitor.analysis.window import TrackWindow
from shared.models import Track


def visitors(canary: tuple[int, int], stable: tuple[int, int]) -> JudgedVisitors:
    """Returns visitors of both tracks: those seen, and those of them who had an error."""
    found = JudgedVisitors()
    for track, (seen, failing) in ((Track.CANARY, canary), (Track.STABLE, stable)):
        found.seen[track].take(seen)
        found.failing[track].take(failing)
    return found


def section(canary: int, stable: int, share: float = 0.33, at_s: float = 0.0, strata: Strata | None = None) -> Section:
    strata = strata or Strata(2)
    stratum = strata.at(0, at_s)
    stratum.canary.count(TrackWindow(100), canary, {})
    stratum.stable.count(TrackWindow(200), stable, {})
    stratum.expected_failing += share * (canary + stable)
    return whole(strata)


def enough(lane: LaneName, canary: tuple[int, int], stable: tuple[int, int], share: float = 0.33) -> bool:
    found = section(canary[1], stable[1], share)
    return visitors(canary, stable).enough(lane, Margins(), found, found)


@pytest.mark.parametrize(
    ("canary", "stable", "share", "expected"),
    [
        ((100, 2), (200, 0), 0.05, False),  # fewer than 3
        ((100, 4), (200, 0), 0.33, False),  # 0.33 ** 4 is 1.2 %
        ((100, 5), (200, 0), 0.33, True),  # 0.33 ** 5 is 0.4 %
        ((100, 5), (200, 5), 0.33, False),
        ((100, 30), (200, 10), 0.33, True),
        ((100, 6), (100, 0), 0.5, False),
        ((100, 7), (100, 0), 0.5, True),
        ((9, 9), (20, 11), 0.33, True),  # most of production's visitors have had errors: nothing can be told by them
        ((9, 9), (20, 10), 0.33, False),
        ((0, 0), (0, 0), 0.33, True),  # nobody counted visitors
    ],
)
def test_errors_need_several_visitors_and_more_than_chance_gives(
    canary: tuple[int, int], stable: tuple[int, int], share: float, expected: bool
) -> None:
    assert enough("errors", canary, stable, share) is enough("gross errors", canary, stable, share) is expected


@pytest.mark.parametrize(
    ("canary", "expected"), [((1, 1), True), ((2, 2), True), ((2, 1), False), ((3, 2), False), ((100, 3), True)]
)
def test_an_outage_needs_three_visitors_or_all_of_a_smaller_number(canary: tuple[int, int], expected: bool) -> None:
    assert enough("outage", canary, (0, 0)) is expected
    assert enough("errors", canary, (0, 0)) is False


def test_latency_and_client_errors_ask_for_no_visitors() -> None:
    assert enough("latency", (1, 0), (1, 0))
    assert enough("client errors", (1, 0), (1, 0))


def test_visitors_who_lately_had_their_first_error_are_enough() -> None:
    strata = Strata(2)
    for number in range(20):
        section(1, 2, at_s=20.0 * number, strata=strata)
    section(8, 0, at_s=400.0, strata=strata)
    found = visitors((1000, 28), (2000, 40))

    assert not found.enough("errors", Margins(), whole(strata), whole(strata))
    assert found.enough("errors", Margins(), whole(strata), newest(strata, ended=1))


def test_a_number_that_begins_at_0_again_is_added() -> None:
    counter = VisitorCounter()

    assert [counter.take(value) for value in (3, 3, 5, 2, 4)] == [3, 0, 2, 2, 2]
    assert counter.total == 9


def test_twenty_requests_of_a_visitor_count_as_seven() -> None:
    found = visitors((10, 0), (20, 0))

    found.count(600)
    assert 20 / found.design_effect == pytest.approx(6.9, abs=0.01)
    found.count(60_000)
    assert found.design_effect == 10


def test_requests_of_different_visitors_all_count() -> None:
    found = visitors((100, 0), (200, 0))
    found.count(300)

    assert found.design_effect == 1


def test_from_many_visitors_on_it_stays_as_it_was() -> None:
    found = visitors((3000, 0), (6000, 0))
    found.count(18_000)
    before = found.design_effect
    found.seen[Track.STABLE].take(7000)
    found.count(100_000)

    assert found.design_effect == before == pytest.approx(1.1)
