"""Environments take turns to replace instances."""

from itertools import pairwise

from services.deployer.reconcile.replacement_turns import ReplacementTurns


def test_two_at_a_time_and_the_next_when_one_has_done() -> None:
    turns = ReplacementTurns()
    assert [turns.may_replace(each, True, 0) for each in ("a", "b", "c")] == [True, True, False]
    assert [turns.may_replace(each, True, 1) for each in ("a", "b", "c")] == [True, True, False]
    assert not turns.may_replace("a", False, 5)
    assert turns.may_replace("c", True, 5)


def test_a_turn_that_leads_to_nothing_ends_and_the_next_comes_later_each_time() -> None:
    turns = ReplacementTurns()
    begun = [second for second in range(4000) if turns.may_replace("a", True, second) and not second % 60]
    assert begun[:4] == [0, 60, 180, 420]
    assert {later - earlier for earlier, later in pairwise(begun[4:])} == {600}


def test_after_a_long_time_without_it_the_back_off_is_forgotten() -> None:
    turns = ReplacementTurns()
    assert turns.may_replace("a", True, 0) and not turns.may_replace("a", False, 10)
    assert not turns.may_replace("a", True, 59)
    assert turns.may_replace("a", True, 60) and not turns.may_replace("a", False, 70)
    assert not turns.may_replace("a", True, 179)
    assert turns.may_replace("a", True, 2000) and not turns.may_replace("a", False, 2010)
    assert turns.may_replace("a", True, 2060)


def test_who_is_never_heard_of_again_holds_no_turn() -> None:
    turns = ReplacementTurns()
    assert turns.may_replace("a", True, 0) and turns.may_replace("b", True, 0)
    assert turns.may_replace("c", True, 60)
