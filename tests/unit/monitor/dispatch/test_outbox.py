"""Sending: how many at a time, and what an outage of the store does."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from services.monitor.dispatch.delivery import MessageDelivery, MessageDeliveryState, new_delivery
from services.monitor.dispatch.outbox import Outbox
from services.monitor.dispatch.outbox_store import DueDeliveries, OutboxStore, SendOutcome
from services.monitor.notify.event_message import Notification
from services.monitor.notify.message import Message, compose
from services.monitor.notify.notifier import Address
from shared.store import RedisError
from tests.support.kept_items import kept_items
from tests.support.monitor.fakes import FakeNotifier

pytestmark = pytest.mark.anyio

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Faulty(OutboxStore):
    """`fault`: writes are not made, and raise."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.fault = False

    async def save(self, delivery: MessageDelivery) -> None:
        if self.fault:
            raise RedisError("away")
        await super().save(delivery)


class Slow(FakeNotifier):
    """Sends when it is allowed to; `sending` holds the servers that are at it."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.sending: list[str] = []

    async def send(self, url: str, message: Message, delivery_id: str) -> None:
        server = url.split("/")[2]
        self.sending.append(server)
        await self.may.wait()
        self.sending.remove(server)
        await super().send(url, message, delivery_id)


async def filled(store: OutboxStore, *people: str) -> list[MessageDelivery]:
    """Queues a message to each, `person@server`."""
    notification = Notification(
        event="build.failure", app="notes", environment="", message=compose("s", [], [], "http://b")
    )
    deliveries = []
    for person in people:
        name, _, server = person.partition("@")
        deliveries.append(
            new_delivery("1-0", notification, Address(f"fake://{server}/{name}", person, person, server), AT)
        )
    await store.settle(SendOutcome(deliveries=deliveries))
    return deliveries


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_server_is_asked_for_two_at_a_time_and_all_of_them_for_four(redis: Redis) -> None:
    store, notifier = OutboxStore(redis), Slow()
    await filled(store, "a@x", "b@x", "c@x", "d@y", "e@z", "f@z")
    async with Outbox(store, notifier, lambda: AT, asyncio.Event().set) as outbox:
        for _ in range(3):
            await outbox.step()
            await turns()
            assert sorted(notifier.sending) == ["x", "x", "y", "z"]
        notifier.may.set()
        await turns()
        await outbox.step()
        await turns()
    assert sorted(name for name, _, _ in notifier.sent) == ["a", "b", "c", "d", "e", "f"]
    assert {each.state for each in await store.deliveries()} == {MessageDeliveryState.DELIVERED}


async def test_a_step_says_when_the_next_delivery_is_due(redis: Redis) -> None:
    store, clock = OutboxStore(redis), [AT - timedelta(seconds=30)]
    async with Outbox(store, FakeNotifier(), lambda: clock[0], asyncio.Event().set) as outbox:
        assert await outbox.step() is None
        await filled(store, "a@x")
        assert await outbox.step() == 30
        clock[0] = AT
        assert await outbox.step() is None
        await turns()
    assert [each.state for each in await store.deliveries()] == [MessageDeliveryState.DELIVERED]


async def test_nothing_is_sent_that_could_not_be_stored_as_sending(redis: Redis) -> None:
    store, notifier = Faulty(redis), FakeNotifier()
    await filled(store, "a@x")
    async with Outbox(store, notifier, lambda: AT, asyncio.Event().set) as outbox:
        store.fault = True
        with pytest.raises(RedisError):
            await outbox.step()
        await turns()
        assert notifier.sent == []
        store.fault = False
        await outbox.step()
        await turns()
    assert len(notifier.sent) == 1


async def test_a_store_that_is_away_after_a_send_makes_no_second_one(redis: Redis) -> None:
    store, notifier = Faulty(redis), FakeNotifier()
    await filled(store, "a@x")
    async with Outbox(store, notifier, lambda: AT + timedelta(hours=1), asyncio.Event().set) as outbox:
        await outbox.step()
        store.fault = True
        await turns()
        for _ in range(3):
            with pytest.raises(RedisError):
                await outbox.step()
        store.fault = False
        for _ in range(3):
            await outbox.step()
            await turns()
    [delivery] = await store.deliveries()
    assert (len(notifier.sent), delivery.state, delivery.attempts) == (1, MessageDeliveryState.DELIVERED, 1)


async def test_the_end_waits_for_what_is_being_sent_and_stores_what_came_of_it(redis: Redis) -> None:
    store, notifier = OutboxStore(redis), Slow()
    await filled(store, "a@x")
    woken = asyncio.Event()
    async with Outbox(store, notifier, lambda: AT, woken.set) as outbox:
        await outbox.step()
        assert not woken.is_set()
        asyncio.get_running_loop().call_later(0.05, notifier.may.set)
    assert woken.is_set()
    [delivery] = await store.deliveries()
    assert delivery.state is MessageDeliveryState.DELIVERED


async def test_servers_that_were_sent_to_take_no_memory(redis: Redis) -> None:
    store = OutboxStore(redis)
    await filled(store, "a@x", "b@y", "c@z")
    async with Outbox(store, FakeNotifier(), lambda: AT, asyncio.Event().set) as outbox:
        before = kept_items(outbox)
        for _ in range(2):
            await outbox.step()
            await turns()
        assert kept_items(outbox) == before
    assert {each.state for each in await store.deliveries()} == {MessageDeliveryState.DELIVERED}


async def test_a_failure_and_a_fault_of_the_notifier_are_both_tried_again(redis: Redis) -> None:
    class Broken(FakeNotifier):
        async def send(self, url: str, message: Message, delivery_id: str) -> None:
            if url.endswith("/a"):
                raise KeyError("s3cret")
            await super().send(url, message, delivery_id)

    store, notifier = OutboxStore(redis), Broken()
    notifier.down = True
    await filled(store, "a@x", "b@x")
    async with Outbox(store, notifier, lambda: AT, asyncio.Event().set) as outbox:
        await outbox.step()
        await turns()
        await outbox.step()
    reasons = {each.recipient: (each.state, each.reason, each.due_at) for each in await store.deliveries()}
    due = AT + timedelta(seconds=5)
    assert reasons == {
        "a@x": (MessageDeliveryState.QUEUED, "an error of the platform: KeyError", due),
        "b@x": (MessageDeliveryState.QUEUED, "the server is down", due),
    }


async def test_a_send_that_ends_while_the_store_is_asked_is_not_begun_again(redis: Redis) -> None:
    notifier = Slow()

    class Late(OutboxStore):
        async def due(self, now: datetime) -> list[DueDeliveries]:
            due = await super().due(now)
            if notifier.sending:
                notifier.may.set()
                await turns()
            return due

    store = Late(redis)
    await filled(store, "a@x")
    async with Outbox(store, notifier, lambda: AT, asyncio.Event().set) as outbox:
        for _ in range(3):
            await outbox.step()
            await turns()
    assert len(notifier.sent) == 1
