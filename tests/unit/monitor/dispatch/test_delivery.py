"""A delivery's states, and when it is tried again."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from services.monitor.dispatch.delivery import (
    DELIVERY_TABLE,
    MessageDelivery,
    MessageDeliveryState,
    Patience,
    begun,
    new_delivery,
    silenced,
    tried,
)
from services.monitor.notify.event_message import Notification
from services.monitor.notify.message import compose
from services.monitor.notify.notifier import Address
from shared.state import IllegalTransition, transition

S = MessageDeliveryState
AT = datetime(2026, 1, 1, tzinfo=UTC)
ALLOWED = {
    (S.QUEUED, S.SENDING),
    (S.QUEUED, S.FAILED),
    (S.QUEUED, S.SILENCED),
    (S.SENDING, S.DELIVERED),
    (S.SENDING, S.QUEUED),
    (S.SENDING, S.FAILED),
}
NOTIFICATION = Notification(
    event="build.failure", app="notes", environment="", message=compose("s", [], [], "http://b")
)


def address(name: str, problem: str = "") -> Address:
    return Address(f"fake://s3cret/{name}", name, name, "server", problem)


def delivery(cause: str = "1-0", name: str = "ann", problem: str = "") -> MessageDelivery:
    return new_delivery(cause, NOTIFICATION, address(name, problem), AT)


@pytest.mark.parametrize(("current", "new"), list(itertools.product(S, S)))
def test_every_pair_of_states(current: MessageDeliveryState, new: MessageDeliveryState) -> None:
    if (current, new) in ALLOWED:
        assert transition(DELIVERY_TABLE, current, new) is new
    else:
        with pytest.raises(IllegalTransition):
            transition(DELIVERY_TABLE, current, new)


def test_its_id_is_that_of_its_cause_and_recipient() -> None:
    assert delivery().id == delivery().id
    assert len({delivery().id, delivery("1-1").id, delivery(name="bob").id}) == 3


def test_the_wait_doubles_from_5_s_to_5_min_and_ends_after_a_day() -> None:
    now, waits, current = AT, [], delivery()
    while not current.ended:
        current = tried(begun(current, now), "the server is down", Patience(), now)
        if current.due_at:
            waits.append((current.due_at - now).total_seconds())
            now = current.due_at
    assert waits[:8] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert timedelta(hours=24) <= now - AT < timedelta(hours=24, minutes=5)
    assert (current.state, current.attempts) == (S.FAILED, len(waits) + 1)
    assert current.reason == f"given up after {current.attempts} tries: the server is down"


def test_one_that_waited_longer_than_a_day_for_the_monitor_is_tried_ten_times() -> None:
    """Or the clock was set forward since it was made."""
    late = AT + timedelta(days=3)
    assert tried(begun(delivery(), late), None, Patience(), late).state is S.DELIVERED
    waiting = delivery()
    for _ in range(9):
        waiting = tried(begun(waiting, late), "down", Patience(), late)
        assert waiting.state is S.QUEUED
    assert tried(begun(waiting, late), "down", Patience(), late).state is S.FAILED


def test_one_that_was_left_sending_is_sent_again() -> None:
    left = begun(delivery(), AT)
    again = begun(left, AT)
    assert (again.state, again.attempts, again.id) == (S.SENDING, 2, left.id)
    assert again.reason == "the monitor ended while it was sent"


def test_what_has_ended_keeps_no_secret() -> None:
    sent = tried(begun(delivery(), AT), None, Patience(), AT)
    for ended in (sent, silenced(delivery(), "silence", AT), delivery(problem="unknown")):
        assert (ended.url, ended.message, ended.due_at) == (None, None, None)
        assert "s3cret" not in ended.model_dump_json()
    assert silenced(delivery(problem="unknown"), "silence", AT).state is S.FAILED
