"""Alerts told together: when, and which."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from services.monitor.dispatch.alert_group import AlertGroup, GroupUpdate, due, flushed, regrouped, update_message
from shared.models import Event

START = datetime(2026, 1, 1, tzinfo=UTC)


class GroupOverTime:
    """A group with a clock; each flush is described as `+cpu` fires, `-cpu` is resolved, `~cpu` is muted."""

    def __init__(self) -> None:
        self.group: AlertGroup | None = None
        self.ids: list[str] = []
        self.now = START

    def happens(self, second: float, state: str, *rules: str) -> None:
        self.now = START + timedelta(seconds=second)
        for rule in rules:
            event = Event(
                **{"type": f"alert.{state}", "app": "notes", "at": self.now, "id": f"{rule}:notes-r9"},
                **{"rule": rule, "release": "notes-r9", "environment": "canary", "reason": f"{rule} is {state}"},
            )
            self.group = regrouped(self.group, event, self.now)

    def flush(self, second: float, muted: Sequence[str] = ()) -> list[str]:
        self.now = START + timedelta(seconds=second)
        if self.group is None or self.group.look_at > self.now:
            return []
        self.group, updates = flushed(self.group, muted, self.now)
        self.ids += [update.id for update in updates]
        return [_described(update) for update in updates]


def _described(update: GroupUpdate) -> str:
    sign = "~" if update.muted else "+"
    return " ".join([f"{sign}{a.rule}" for a in update.firing] + [f"-{a.rule}" for a in update.resolved])


def test_the_first_message_waits_five_seconds_and_takes_along_what_fires_meanwhile() -> None:
    group = GroupOverTime()
    group.happens(0, "firing", "cpu")
    group.happens(4, "firing", "memory")
    assert group.flush(4.9) == []
    assert group.flush(5) == ["+cpu +memory"]
    assert group.flush(6) == []


def test_what_is_resolved_before_it_was_told_is_never_told() -> None:
    group = GroupOverTime()
    group.happens(0, "firing", "cpu", "memory")
    group.happens(3, "resolved", "cpu")
    assert group.flush(5) == ["+memory"]
    group.happens(6, "firing", "cpu")
    group.happens(7, "resolved", "cpu")
    assert group.flush(305) == []
    alone = GroupOverTime()
    alone.happens(0, "firing", "cpu")
    alone.happens(3, "resolved", "cpu")
    assert alone.group is None


def test_news_of_a_told_group_waits_for_five_minutes() -> None:
    group = GroupOverTime()
    group.happens(0, "firing", "cpu")
    assert group.flush(5) == ["+cpu"]
    group.happens(10, "firing", "memory")
    group.happens(20, "resolved", "cpu")
    assert group.flush(304) == []
    assert group.flush(305) == ["+memory -cpu"]
    group.happens(306, "resolved", "memory")
    assert group.flush(605) == ["-memory"]
    assert group.group is None


def test_what_fires_again_before_its_end_was_told_is_no_news() -> None:
    group = GroupOverTime()
    group.happens(0, "firing", "cpu")
    assert group.flush(5) == ["+cpu"]
    group.happens(10, "resolved", "cpu")
    group.happens(20, "firing", "cpu")
    assert group.flush(305) == []


def test_what_goes_on_firing_is_told_again_every_four_hours() -> None:
    group = GroupOverTime()
    group.happens(0, "firing", "cpu")
    at = [second for second in range(0, 9 * 3600, 60) if group.flush(second)]
    assert at == [60, 60 + 4 * 3600, 60 + 8 * 3600]
    assert len(set(group.ids)) == 3


def test_what_is_gone_before_it_was_told_is_never_told() -> None:
    group = GroupOverTime()
    group.happens(0, "firing", "cpu")
    group.happens(1, "gone", "cpu")
    assert group.group is None
    group.happens(10, "firing", "cpu", "memory")
    group.happens(11, "gone", "cpu")
    assert group.flush(15) == ["+memory"]


def test_who_was_told_that_it_fires_is_told_once_that_it_is_gone() -> None:
    group = GroupOverTime()
    group.happens(0, "firing", "cpu")
    assert group.flush(5) == ["+cpu"]
    group.happens(16, "gone", "cpu")
    waiting = group.group
    assert waiting is not None
    assert group.flush(400) == ["-cpu"]
    assert (group.flush(800), group.group) == ([], None)
    _, [update] = flushed(waiting, [], waiting.look_at)
    message = update_message(waiting, update, "", "http://monitor/alerts")
    assert message.subject == "notes canary: notes-r9 over: cpu"
    assert "cpu is over since 00:00:16 UTC: cpu is gone" in message.text


def test_ends_of_both_kinds_are_told_together() -> None:
    group = GroupOverTime()
    group.happens(0, "firing", "cpu", "memory")
    assert group.flush(5) == ["+cpu +memory"]
    group.happens(6, "resolved", "cpu")
    group.happens(7, "gone", "memory")
    assert group.flush(305) == ["-cpu -memory"]


def test_a_group_that_begins_anew_has_other_ids() -> None:
    group = GroupOverTime()
    for start in (0, 1000):
        group.happens(start, "firing", "cpu")
        assert group.flush(start + 5) == ["+cpu"]
        group.happens(start + 6, "gone", "cpu")
        assert group.flush(start + 305) == ["-cpu"]
    assert len(set(group.ids)) == 4


def test_the_same_look_has_the_same_id_however_often_it_is_tried() -> None:
    group = GroupOverTime()
    group.happens(0, "firing", "cpu")
    before = group.group
    group.flush(5)
    group.group = before
    group.flush(9)
    assert len(group.ids) == 2 and len(set(group.ids)) == 1


def test_a_muted_alert_is_recorded_once_and_told_when_its_silence_is_over() -> None:
    group = GroupOverTime()
    group.happens(0, "firing", "cpu", "memory")
    assert group.flush(5, ["cpu"]) == ["+memory", "~cpu"]
    assert group.flush(305, ["cpu"]) == []
    assert group.flush(605) == ["+cpu +memory"]
    assert len(set(group.ids)) == 3


def test_a_muted_end_is_not_told() -> None:
    group = GroupOverTime()
    group.happens(0, "firing", "cpu")
    assert group.flush(5, ["cpu"]) == ["~cpu"]
    group.happens(6, "resolved", "cpu")
    assert (group.flush(305), group.group) == ([], None)


def test_unknown_alerts_and_states_change_nothing() -> None:
    group = GroupOverTime()
    group.happens(0, "resolved", "cpu")
    group.happens(0, "pending", "cpu")
    assert group.group is None
    group.happens(1, "firing", "cpu")
    before = group.group
    group.happens(2, "pending", "cpu")
    group.happens(2, "gone", "memory")
    assert group.group == before


def test_a_message_names_rule_figures_and_release() -> None:
    fired = Event(
        **{"type": "alert.firing", "app": "notes", "at": START, "id": "memory:notes-r9", "reason": "uses 95 %"},
        **{"rule": "memory", "release": "notes-r9", "environment": "production", "value": 0.95, "threshold": 0.9},
    )
    group = regrouped(None, fired, START)
    assert group is not None
    _, [update] = flushed(group, [], group.look_at)
    message = update_message(group, update, "c" * 40, "http://monitor/alerts")
    assert message.subject == "notes production: notes-r9 firing: memory: uses 95 %"
    for words in (
        "memory fires since 00:00:00 UTC: uses 95 % (measured 0.95, limit 0.9)",
        "c" * 40,
        "http://monitor/alerts",
    ):
        assert words in message.text


@pytest.mark.parametrize("back", [timedelta(hours=1), timedelta(days=365)])
def test_after_a_clock_was_set_back_a_group_is_looked_at_and_told_again(back: timedelta) -> None:
    group = GroupOverTime()
    group.happens(0, "firing", "cpu")
    assert group.flush(5) == ["+cpu"]
    assert group.group is not None
    assert due({"notes": group.group}, START + timedelta(seconds=6)) == []
    assert due({"notes": group.group}, START - back) == [group.group]
    _, updates = flushed(group.group, [], START - timedelta(days=365))
    assert len(updates) == 1


def test_the_platforms_alerts_are_one_group() -> None:
    group: AlertGroup | None = None
    for rule, service in (("disk", ""), ("service", "build")):
        fired = {"type": "alert.firing", "app": "", "at": START, "id": f"{rule}:{service or 'platform'}"}
        group = regrouped(group, Event(**fired, rule=rule, release="", service=service, reason="it is so"), START)
    assert group is not None
    assert (group.name, group.environment) == ("::", "")
    _, [update] = flushed(group, [], group.look_at)
    message = update_message(group, update, "", "http://monitor/alerts")
    assert message.subject == "the platform: firing: disk, service"
    assert "disk fires since 00:00:00 UTC: it is so\n" in message.text
