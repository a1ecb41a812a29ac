"""Deliveries, alert groups, release contexts, notifiers and silences in Redis."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.monitor.dispatch.alert_group import AlertGroup
from services.monitor.dispatch.delivery import (
    MessageDelivery,
    MessageDeliveryState,
    Patience,
    begun,
    new_delivery,
    silenced,
    tried,
)
from services.monitor.dispatch.outbox_store import (
    BATCH,
    DELIVERIES,
    GROUP,
    KEPT,
    DueDeliveries,
    OutboxStore,
    SendOutcome,
)
from services.monitor.notify.event_message import Notification
from services.monitor.notify.message import compose
from services.monitor.notify.notifier import Address
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.notify.recipient import Recipient
from services.monitor.notify.release_context import ReleaseContext
from services.monitor.notify.silence import SilenceBody, new_silence
from shared.events import STREAM, EventFollower, append
from shared.models import Event
from shared.store import connect
from shared.web.paging import time_key
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio

AT = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def delivery(cause: str = "1-0", second: float = 0, server: str = "mail server") -> MessageDelivery:
    notification = Notification(
        event="build.failure", app="notes", environment="", message=compose("s", [], [], "http://b")
    )
    return new_delivery(cause, notification, Address("fake://s/ann", "ann", "ann", server), at(second))


def ended(found: MessageDelivery) -> MessageDelivery:
    return tried(begun(found, found.created_at), None, Patience(), found.created_at)


def key(found: MessageDelivery) -> str:
    return time_key(found.created_at, found.id)


def group(release: str) -> AlertGroup:
    return AlertGroup(app="notes", environment="canary", release=release, look_at=AT)


@pytest.fixture
def outbox(redis: Redis) -> OutboxStore:
    return OutboxStore(redis)


@pytest.fixture
def notifiers(redis: Redis) -> NotifierStore:
    return NotifierStore(redis)


async def test_deliveries_are_listed_newest_first_and_due_longest_first(outbox: OutboxStore) -> None:
    older, newer, later = delivery("1-0", 0), delivery("2-0", 1), delivery("3-0", 20)
    await outbox.settle(SendOutcome(deliveries=[newer, older, later]))
    assert await outbox.deliveries() == [later, newer, older]
    assert await outbox.due(at(10)) == [DueDeliveries(older.id, "mail server"), DueDeliveries(newer.id, "mail server")]
    assert await outbox.get([newer.id, "nobody", older.id]) == [newer, older]
    assert await outbox.get([]) == []


async def test_a_delivery_that_is_there_stays_as_it_is(outbox: OutboxStore) -> None:
    await outbox.settle(SendOutcome(deliveries=[delivery()]))
    sent = ended(delivery())
    await outbox.save(sent)
    await outbox.settle(SendOutcome(deliveries=[delivery()]))
    assert await outbox.deliveries() == [sent]


async def test_what_is_saved_is_due_when_it_says(outbox: OutboxStore) -> None:
    await outbox.settle(SendOutcome(deliveries=[delivery()]))
    sending = begun(delivery(), AT)
    await outbox.save(sending)
    assert [due.id for due in await outbox.due(AT)] == [sending.id]  # else a killed process would lose it
    waiting = tried(sending, "down", Patience(), at(1))
    await outbox.save(waiting)
    assert await outbox.due(at(5.9)) == []
    assert [due.id for due in await outbox.due(at(6))] == [waiting.id]
    await outbox.save(tried(begun(waiting, at(6)), None, Patience(), at(6)))
    assert await outbox.due(at(9999)) == []


@pytest.mark.parametrize("back", [timedelta(hours=1), timedelta(days=365)])
async def test_after_a_clock_was_set_back_what_would_be_due_then_is_due_now(
    outbox: OutboxStore, back: timedelta
) -> None:
    waiting = tried(begun(delivery(), AT), "down", Patience(), AT)
    await outbox.settle(SendOutcome(deliveries=[waiting]))
    assert await outbox.due(AT) == []
    assert [due.id for due in await outbox.due(AT - back)] == [waiting.id]


async def test_only_ended_deliveries_beyond_the_newest_500_go(outbox: OutboxStore) -> None:
    old = [delivery(f"{number}-0", number) for number in range(3)]
    new = [ended(delivery(f"{number}-0", number)) for number in range(3, KEPT + 3)]
    await outbox.settle(SendOutcome(deliveries=[*old, *new]))
    await outbox.save(ended(old[1]))
    await outbox.trim()
    kept = await outbox.deliveries(limit=KEPT + 9)
    assert [each.id for each in kept] == [each.id for each in [*new[::-1], old[2], old[0]]]
    assert await outbox.get([old[1].id]) == []


async def test_deliveries_are_read_page_by_page(outbox: OutboxStore) -> None:
    made = [delivery(f"{number}-0", number // 3) for number in range(2 * BATCH + 5)]  # three of each second
    await outbox.settle(SendOutcome(deliveries=made))
    newest = sorted(made, key=lambda each: (each.created_at, each.id), reverse=True)
    found: list[MessageDelivery] = []
    while page := await outbox.deliveries(limit=4, before=key(found[-1]) if found else None):
        if len(found) == 8:
            await outbox.settle(SendOutcome(deliveries=[delivery("new", 9999)]))
        found += page
    assert found == newest
    assert await outbox.deliveries(limit=2, app="other") == []
    await outbox.save(ended(made[0]))
    assert await outbox.deliveries(limit=2, state=MessageDeliveryState.DELIVERED) == [ended(made[0])]


async def test_deliveries_that_are_only_recorded_are_trimmed_too(outbox: OutboxStore, redis: Redis) -> None:
    for number in range(KEPT + 5):
        muted = silenced(delivery(f"{number}-0", number), "a silence", at(number))
        await outbox.settle(SendOutcome(deliveries=[muted]))
    assert await redis.hlen(DELIVERIES) == KEPT


async def test_groups_and_what_is_known_are_put_and_replaced(outbox: OutboxStore) -> None:
    contexts = ReleaseContext(notify=["mailto://x"], commits={"notes-r9": "c" * 40})
    await outbox.settle(
        SendOutcome(groups={"a": group("notes-r1"), "b": group("notes-r2")}, contexts={"notes:canary": contexts})
    )
    await outbox.settle(SendOutcome(groups={"a": None, "c": None, "b": group("notes-r3")}))
    assert await outbox.groups() == {"b": group("notes-r3")}
    assert await outbox.contexts("notes") == {"notes:canary": contexts}


async def test_an_event_is_confirmed_with_what_follows_from_it(redis: Redis) -> None:
    store, follower = OutboxStore(redis), EventFollower(redis, GROUP)
    await store.prepare(AT)
    await append(redis, Event(type="build.failure", app="notes", at=AT))
    [(entry_id, _)] = await EventFollower(redis, GROUP).read(1) or await follower.read(1) or await follower.read(1)
    pending: Any = await redis.xpending(STREAM, GROUP)
    assert pending["pending"] == 1
    await store.settle(SendOutcome(deliveries=[delivery(entry_id)]), entry_id)
    pending = await redis.xpending(STREAM, GROUP)
    assert (pending["pending"], len(await store.deliveries())) == (0, 1)


async def test_the_first_time_old_events_are_left_alone_and_later_none_is(redis: Redis) -> None:
    store = OutboxStore(redis)
    for ms, name in ((1000, "old"), (3000, "new")):
        event = Event(type="build.failure", app="notes", at=AT, id=name)
        await redis.xadd(STREAM, {"event": event.model_dump_json()}, id=f"{ms}-0")
    for seconds in (2, 5):
        await store.prepare(datetime.fromtimestamp(seconds, UTC))
    follower = EventFollower(redis, GROUP)
    read = await follower.read(1) or await follower.read(1)
    assert [event.id for _, event in read] == ["new"]


async def test_notifiers_are_kept_in_order_and_replaced_as_a_whole(notifiers: NotifierStore) -> None:
    assert await notifiers.recipients() == []
    both = [Recipient(name=name, url=f"fake://{name}", events=["build.*"]) for name in ("b", "a")]
    for recipients in (both, both[1:], []):
        await notifiers.put_recipients(recipients)
        assert await notifiers.recipients() == recipients


async def test_silences_come_newest_first_and_go_when_they_are_over(notifiers: NotifierStore) -> None:
    body = SilenceBody(app="notes", duration_s=60, reason="why")
    first, second, third = (new_silence(f"s{number}", body, at(number)) for number in range(3))
    for silence in (first, second):
        await notifiers.put_silence(silence, silence.created_at)
    assert await notifiers.silences() == [second, first]
    await notifiers.put_silence(third, at(60))
    assert await notifiers.silences() == [third, second]
    assert (await notifiers.delete_silence("s2"), await notifiers.delete_silence("s2")) == (True, False)
    assert await notifiers.silences() == [second]


async def test_stores_that_are_out_of_reach_raise() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(RedisError):
        await OutboxStore(client).settle(SendOutcome(deliveries=[delivery()]))
    with pytest.raises(RedisError):
        await NotifierStore(client).recipients()
    await client.aclose()
