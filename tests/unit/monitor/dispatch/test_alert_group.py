"""Alerts told together: when, and which."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from services.monitor.dispatch.alert_group import AlertGroup, Bulletin, bulletin_message, looked_at, regrouped
from shared.models import Event

START = datetime(2026, 1, 1, tzinfo=UTC)


class Told:
    """A group with a clock; each look is told in words: `+cpu` fires, `-cpu` is resolved, `~cpu` is muted."""

    def __init__(self) -> None:
        self.group: AlertGroup | None = None
        self.ids: list[str] = []
        self.now = START

    def happens(self, second: float, state: str, *rules: str) -> None:
        self.now = START + timedelta(seconds=second)
        for rule in rules:
            told = Event(
                **{"type": f"alert.{state}", "app": "notes", "at": self.now, "id": f"{rule}:notes-r9"},
                **{"rule": rule, "release": "notes-r9", "environment": "canary", "reason": f"{rule} is {state}"},
            )
            self.group = regrouped(self.group, told, self.now)

    def look(self, second: float, muted: Sequence[str] = ()) -> list[str]:
        self.now = START + timedelta(seconds=second)
        if self.group is None or self.group.look_at > self.now:
            return []
        self.group, bulletins = looked_at(self.group, muted, self.now)
        self.ids += [bulletin.id for bulletin in bulletins]
        return [_words(bulletin) for bulletin in bulletins]


def _words(bulletin: Bulletin) -> str:
    sign = "~" if bulletin.muted else "+"
    return " ".join([f"{sign}{a.rule}" for a in bulletin.firing] + [f"-{a.rule}" for a in bulletin.resolved])


def test_the_first_message_waits_five_seconds_and_takes_along_what_fires_meanwhile() -> None:
    told = Told()
    told.happens(0, "firing", "cpu")
    told.happens(4, "firing", "memory")
    assert told.look(4.9) == []
    assert told.look(5) == ["+cpu +memory"]
    assert told.look(6) == []


def test_what_is_resolved_before_it_was_told_is_never_told() -> None:
    told = Told()
    told.happens(0, "firing", "cpu", "memory")
    told.happens(3, "resolved", "cpu")
    assert told.look(5) == ["+memory"]
    told.happens(6, "firing", "cpu")
    told.happens(7, "resolved", "cpu")
    assert told.look(305) == []
    alone = Told()
    alone.happens(0, "firing", "cpu")
    alone.happens(3, "resolved", "cpu")
    assert alone.group is None


def test_news_of_a_told_group_waits_for_five_minutes() -> None:
    told = Told()
    told.happens(0, "firing", "cpu")
    assert told.look(5) == ["+cpu"]
    told.happens(10, "firing", "memory")
    told.happens(20, "resolved", "cpu")
    assert told.look(304) == []
    assert told.look(305) == ["+memory -cpu"]
    told.happens(306, "resolved", "memory")
    assert told.look(605) == ["-memory"]
    assert told.group is None


def test_what_fires_again_before_its_end_was_told_is_no_news() -> None:
    told = Told()
    told.happens(0, "firing", "cpu")
    assert told.look(5) == ["+cpu"]
    told.happens(10, "resolved", "cpu")
    told.happens(20, "firing", "cpu")
    assert told.look(305) == []


def test_what_goes_on_firing_is_told_again_every_four_hours() -> None:
    told = Told()
    told.happens(0, "firing", "cpu")
    at = [second for second in range(0, 9 * 3600, 60) if told.look(second)]
    assert at == [60, 60 + 4 * 3600, 60 + 8 * 3600]
    assert len(set(told.ids)) == 3


def test_what_is_gone_says_nothing_and_takes_its_waiting_message_along() -> None:
    told = Told()
    told.happens(0, "firing", "cpu")
    told.happens(1, "gone", "cpu")
    assert told.group is None
    told.happens(10, "firing", "cpu", "memory")
    told.happens(11, "gone", "cpu")
    assert told.look(15) == ["+memory"]
    told.happens(16, "gone", "memory")
    assert (told.look(400), told.group) == ([], None)


def test_an_end_that_people_wait_for_is_told_though_another_alert_is_gone() -> None:
    told = Told()
    told.happens(0, "firing", "cpu", "memory")
    assert told.look(5) == ["+cpu +memory"]
    told.happens(6, "resolved", "cpu")
    told.happens(7, "gone", "memory")
    assert told.look(305) == ["-cpu"]


def test_a_group_that_begins_anew_has_other_ids() -> None:
    told = Told()
    for start in (0, 1000):
        told.happens(start, "firing", "cpu")
        assert told.look(start + 5) == ["+cpu"]
        told.happens(start + 6, "gone", "cpu")
    assert len(set(told.ids)) == 2


def test_the_same_look_has_the_same_id_however_often_it_is_tried() -> None:
    told = Told()
    told.happens(0, "firing", "cpu")
    before = told.group
    told.look(5)
    told.group = before
    told.look(9)
    assert len(told.ids) == 2 and len(set(told.ids)) == 1


def test_a_muted_alert_is_recorded_once_and_told_when_its_silence_is_over() -> None:
    told = Told()
    told.happens(0, "firing", "cpu", "memory")
    assert told.look(5, ["cpu"]) == ["+memory", "~cpu"]
    assert told.look(305, ["cpu"]) == []
    assert told.look(605) == ["+cpu +memory"]
    assert len(set(told.ids)) == 3


def test_a_muted_end_is_not_told() -> None:
    told = Told()
    told.happens(0, "firing", "cpu")
    assert told.look(5, ["cpu"]) == ["~cpu"]
    told.happens(6, "resolved", "cpu")
    assert (told.look(305), told.group) == ([], None)


def test_unknown_alerts_and_states_change_nothing() -> None:
    told = Told()
    told.happens(0, "resolved", "cpu")
    told.happens(0, "pending", "cpu")
    assert told.group is None
    told.happens(1, "firing", "cpu")
    group = told.group
    told.happens(2, "pending", "cpu")
    told.happens(2, "gone", "memory")
    assert told.group == group


def test_a_bulletin_names_rule_figures_and_release() -> None:
    fired = Event(
        **{"type": "alert.firing", "app": "notes", "at": START, "id": "memory:notes-r9", "reason": "uses 95 %"},
        **{"rule": "memory", "release": "notes-r9", "environment": "production", "value": 0.95, "threshold": 0.9},
    )
    group = regrouped(None, fired, START)
    assert group is not None
    _, [bulletin] = looked_at(group, [], group.look_at)
    message = bulletin_message(group, bulletin, "c" * 40, "http://monitor/alerts")
    assert message.subject == "notes production: notes-r9 firing: memory: uses 95 %"
    for words in (
        "memory fires since 00:00:00 UTC: uses 95 % (measured 0.95, limit 0.9)",
        "c" * 40,
        "http://monitor/alerts",
    ):
        assert words in message.text
