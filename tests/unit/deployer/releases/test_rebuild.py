"""A rebuild says what is wrong and what is done about it, and is tried again ever more rarely."""

from datetime import timedelta

from services.deployer.releases.rebuild import Rebuild, asked, failed, postponed
from tests.support.deployer.fakes import T0

BEGUN = Rebuild(cause="there is no directory notes-17", next_at=T0)


def test_each_state_says_what_is_done() -> None:
    under_way = asked(postponed(BEGUN, "waits: build does not answer"), "notes-23")
    assert [
        BEGUN.problem,
        postponed(BEGUN, "waits: build does not answer").problem,
        under_way.problem,
        failed(under_way, "notes-23 ended in failure: gate coverage", T0).problem,
    ] == [
        "there is no directory notes-17; its commit is built again",
        "there is no directory notes-17; its commit is to be built again, which waits: build does not answer",
        "there is no directory notes-17; notes-23 builds its commit again",
        "there is no directory notes-17; its commit could not be built again: notes-23 ended in failure: gate "
        "coverage. Push a commit; else next try: 2026-01-01 00:01 UTC",
    ]


def test_the_next_try_comes_ever_later_and_at_least_once_an_hour() -> None:
    rebuild, waits = BEGUN, []
    for _ in range(8):
        rebuild = failed(rebuild, "no", T0)
        waits.append((rebuild.next_at - T0) / timedelta(minutes=1))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_part_that_is_away_is_asked_again_soon_and_is_no_failed_try() -> None:
    waiting = postponed(BEGUN, "waits: build does not answer")
    assert (waiting.next_at, waiting.tries, waiting.build) == (T0, 0, "")
