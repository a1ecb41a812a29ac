"""The flags of one environment in memory: their order, pages and digest, whatever the order of the changes."""

import random
from datetime import UTC, datetime, timedelta

from services.flags.evaluation import FlagEvaluator
from services.flags.flag import Definition, Flag
from services.flags.flag_set import FlagSet, position_of
from shared.models import Environment

AT = datetime(2026, 1, 1, tzinfo=UTC)


def flag(key: str, seconds: int = 0, variant: str = "on") -> FlagEvaluator:
    definition = Definition(state="ENABLED", variants={"on": True, "off": False}, default_variant=variant)
    at = AT + timedelta(seconds=seconds)
    return FlagEvaluator(Flag(key=key, environment=Environment.PRODUCTION, definition=definition, updated_at=at))


def set_of(*flags: FlagEvaluator) -> FlagSet:
    made = FlagSet()
    for each in flags:
        made.put(each)
    return made


def test_changes_lead_to_the_same_digest_in_whatever_order_they_come() -> None:
    flags = [flag(f"k{number}") for number in range(20)]
    wanted = set_of(*flags)
    rest = [flag("gone"), *(flag(f"k{number}", variant="off") for number in range(20))]
    random.Random(7).shuffle(rest)
    changed = set_of(*rest)
    assert changed.digest != wanted.digest
    changed.remove("gone")
    changed.remove("never was")
    for each in reversed(flags):
        changed.put(each)
    assert changed.digest == wanted.digest
    assert set_of().digest not in (wanted.digest, set_of(flag("k1")).digest)


def test_the_digest_depends_on_definitions_alone() -> None:
    assert set_of(flag("k", 1)).digest == set_of(flag("k", 2)).digest
    distinct = {set_of(*flags).digest for flags in ([flag("k")], [flag("l")], [flag("k", variant="off")], [])}
    assert len(distinct) == 4


def test_the_last_changed_flag_is_first() -> None:
    flags = set_of(flag("b", 1), flag("c", 3), flag("a", 1))
    before = flags.newest_first()
    assert [each.flag.key for each in before] == ["c", "b", "a"]
    flags.put(flag("a", 5))
    flags.remove("c")
    assert [each.flag.key for each in flags.newest_first()] == ["a", "b"]
    assert [each.flag.key for each in before] == ["c", "b", "a"]
    assert [each.flag.key for each in flags.by_key()] == ["a", "b"]


def test_pages_hold_each_flag_once_also_where_many_changed_at_one_time() -> None:
    flags = set_of(*(flag(f"k{number}", seconds=number // 5) for number in range(23)))
    seen: list[Flag] = []
    while page := flags.page(4, position_of(seen[-1]) if seen else None):
        assert len(page) == 4 or len(seen) == 20
        seen += page
    assert seen == [each.flag for each in flags.newest_first()]
    first = flags.page(1, None)
    flags.put(flag(first[0].key, seconds=100))
    assert flags.page(22, position_of(seen[0])) == seen[1:]  # what changes meanwhile moves to the front


def test_keys_are_found_by_their_text() -> None:
    flags = set_of(*(flag(key) for key in ("new-page", "colour", "New-Mail", "limit")))
    assert list(flags.keys("", "")) == ["New-Mail", "colour", "limit", "new-page"]
    assert list(flags.keys("colour", "")) == ["limit", "new-page"]
    assert list(flags.keys("", "NEW")) == ["New-Mail", "new-page"]
