"""Pages of lists that are in memory, and their cursors."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from shared.models import Page
from shared.web.paging import cut, page_of, time_key

AT = datetime(2026, 1, 1, tzinfo=UTC)


def names(page: Page[str]) -> tuple[list[str], str | None]:
    return page.items, page.next


def test_a_list_is_cut_where_the_limit_says_and_the_last_page_has_no_next() -> None:
    three = ["c", "b", "a"]
    assert names(page_of(three, str, 2, None, newest_first=False)) == (["a", "b"], "b")
    assert names(page_of(three, str, 2, "b", newest_first=False)) == (["c"], None)
    assert names(page_of(three, str, 2, None)) == (["c", "b"], "b")
    assert names(page_of(three, str, 3, None)) == (three, None)
    assert names(page_of([], str, 2, "b")) == ([], None)
    assert names(cut(["c", "b", "a"], 2, str)) == (["c", "b"], "b")


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_walk_finds_what_stays_once_whatever_comes_and_goes(newest_first: bool) -> None:
    chance = random.Random(7)
    for _ in range(200):
        stays = set(chance.sample(range(100), chance.randint(0, 12)))
        found: list[int] = []
        cursor: int | None = None
        while True:
            passing = set(chance.sample(range(100), chance.randint(0, 5)))
            page = page_of(stays | passing, int, chance.randint(1, 4), cursor, newest_first=newest_first)
            found += page.items
            if page.next is None:
                break
            cursor = int(page.next)
        assert [item for item in found if item in stays] == sorted(stays, reverse=newest_first)
        assert len(set(found)) == len(found)


def test_items_of_one_time_are_told_apart_by_name() -> None:
    same = [(AT, "b"), (AT, "a"), (AT - timedelta(days=20_000), "c")]
    page = page_of(same, lambda item: time_key(*item), 1, None)
    assert (page.items, page.next) == ([(AT, "b")], f"{int(AT.timestamp())}000-b")
    assert page_of(same, lambda item: time_key(*item), 2, page.next).items == [(AT, "a"), same[2]]
