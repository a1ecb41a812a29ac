"""The arithmetic of an update under load."""

import pytest

from bench.switchover import HEAD, Switchover, is_over, line, switchover
from stack.clients.load_report import Result


def at(done: float, version: str = "", lost: str = "") -> Result:
    return Result(due=done - 0.01, done=done, quick=True, status=200, commit=version, lost=lost)


def single_spaced(text: str) -> str:
    return " ".join(text.split())


OLD = [at(each / 10, "old") for each in range(20)]
NEW = [at(each / 10, "new") for each in range(20, 50)]


def test_first_and_all_count_from_the_image_being_ready() -> None:
    mixed = [at(1.05, "new"), at(1.55, "new")]  # old answers until 1.9
    found = switchover([*OLD, *mixed, *NEW], "new", ready=0.75, since=0.5, until=4.0)
    assert found.first_s == pytest.approx(0.30)
    assert found.all_s == pytest.approx(1.25)


def test_a_lost_request_is_no_answer_of_the_new_version() -> None:
    found = switchover([*OLD, *NEW, at(2.55, lost="status 503")], "new", ready=1.0, since=0.5, until=4.0)
    assert found.first_s == pytest.approx(1.0)
    assert found.all_s == pytest.approx(1.6)
    assert found.lost == 1


def test_what_names_no_version_says_nothing_but_counts() -> None:
    found = switchover([*OLD, *NEW, at(3.0)], "new", ready=1.0, since=1.0, until=4.0)
    assert found.all_s == pytest.approx(1.0)
    assert found.sent == len([each for each in [*OLD, *NEW, at(3.0)] if 1.0 <= each.due < 4.0])


def test_what_is_outside_the_update_does_not_count() -> None:
    before = [at(0.1, "new"), at(0.2, lost="status 500")]
    after = [at(4.5, "old"), at(4.6, lost="status 500")]
    found = switchover([*before, *OLD[5:], *NEW, *after], "new", ready=1.0, since=0.5, until=4.0)
    assert found.first_s == pytest.approx(1.0)
    assert found.lost == 0


def test_the_gap_is_that_of_the_update() -> None:
    answers = [at(0.5, "old"), at(1.0, "old"), at(2.2, "new"), at(2.9, "new"), at(5.9, "new")]
    assert switchover(answers, "new", ready=0.5, since=0.5, until=3.0).largest_gap_ms == pytest.approx(1200)


@pytest.mark.parametrize("results", [OLD, [*OLD, *NEW, at(5.5, "old")], []])
def test_one_that_did_not_take_over_has_no_figures(results: list[Result]) -> None:
    with pytest.raises(ValueError, match="new did not take over"):
        switchover(results, "new", ready=1.0, since=0.5, until=6.0)


def test_it_is_over_once_the_new_version_alone_has_answered_for_a_second() -> None:
    assert not is_over([], "new", 3.5)
    assert not is_over(OLD, "new", 3.5)
    assert not is_over([*OLD, *NEW[:9]], "new", 2.9)
    assert is_over([*OLD, *NEW[:11]], "new", 3.1)


def test_it_is_not_over_while_others_answer_or_requests_are_lost() -> None:
    until_3 = [*OLD, *NEW[:8]]
    for other in (at(2.75, "old"), at(2.75, lost="status 503")):
        assert not is_over([*until_3, other, *NEW[8:16]], "new", 3.6)
        assert is_over([*until_3, other, *NEW[8:]], "new", 4.9)


def test_silence_before_the_first_answer_is_not_the_second_that_is_waited_for() -> None:
    assert not is_over([*OLD[:5], at(2.0, "new")], "new", 2.01)


def test_a_line_has_medians_sums_and_the_largest_gap() -> None:
    ours = [Switchover(0.5, 0.6, 500, 0, 20), Switchover(0.7, 0.8, 500, 0, 30), Switchover(0.6, 0.7, 500, 0, 25)]
    theirs = [
        Switchover(1.0, 1.4, 600, 50, 900),
        Switchover(1.2, 2.1, 600, 40, 800),
        Switchover(0.9, 1.0, 600, 61, 1300),
    ]
    assert single_spaced(line("Slipway", ours, ours)) == "Slipway 0.60 s 0.70 s 1.0 x 3 1500 0 0 30 ms"
    assert single_spaced(line("other", theirs, ours)) == "other 1.00 s 1.40 s 2.0 x 3 1800 151 50 1300 ms"
    assert len(line("other", theirs, ours)) == len(HEAD)
    assert single_spaced(line("late", [], ours)) == "late no update came to its end"
