from typing import Any

import pytest
from redis.asyncio import Redis

from services.build.forges.delivery import WebhookDelivery, WebhookDeliveryState, became
from services.build.forges.delivery_store import KEPT, REMEMBERED_S, DeliveryStore
from services.build.forges.webhook import Notice
from shared.errors import NotFound
from tests.unit.build.forges.test_delivery import delivery

pytestmark = pytest.mark.anyio
S = WebhookDeliveryState


@pytest.fixture
def store(redis: Redis) -> DeliveryStore:
    return DeliveryStore(redis)


async def added(store: DeliveryStore, forge_id: str, **changes: Any) -> WebhookDelivery:
    stored, new = await store.add(delivery(forge_id=forge_id, **changes))
    assert new
    return stored


def ids(deliveries: list[WebhookDelivery]) -> list[str]:
    return [each.id for each in deliveries]


async def test_ids_count_up_per_app_and_the_newest_is_first(store: DeliveryStore) -> None:
    for forge_id, app in (("a", "notes"), ("b", "notes"), ("a", "other")):
        await added(store, forge_id, app=app)
    assert ids(await store.deliveries("notes")) == ["notes-d2", "notes-d1"]
    assert ids(await store.deliveries("other")) == ["other-d1"]
    assert (await store.delivery("notes", "notes-d2")).forge_id == "b"


async def test_what_came_before_is_known(store: DeliveryStore) -> None:
    first = await added(store, "a")
    await store.save([became(first, S.QUEUED, "notes-1 builds it", ["notes-1"])])
    again, new = await store.add(delivery(forge_id="a"))
    assert (again.id, again.state, new) == ("notes-d1", S.QUEUED, False)
    assert ids(await store.deliveries("notes")) == ["notes-d1"]
    assert await store.waiting("notes") == []


async def test_what_is_received_waits_until_it_has_become_something(store: DeliveryStore) -> None:
    first, second = await added(store, "a"), await added(store, "b")
    await store.add(delivery(Notice("ping", ignored="a ping"), forge_id="c"))
    assert ids(await store.waiting("notes")) == ["notes-d1", "notes-d2"]
    ended = became(first, S.FAILED, "why")
    await store.save([ended, second.model_copy(update={"tries": 1})])
    assert [(each.id, each.tries) for each in await store.waiting("notes")] == [("notes-d2", 1)]
    await store.save([became(ended, S.RECEIVED, "asked for again")])
    assert ids(await store.waiting("notes")) == ["notes-d1", "notes-d2"]


async def test_the_newest_are_kept_and_all_that_wait(store: DeliveryStore) -> None:
    await added(store, "waits")
    for number in range(KEPT + 2):
        await added(store, f"d-{number}", state=S.IGNORED)
    await store.trim("notes")
    listed = await store.deliveries("notes")
    assert (len(listed), listed[-1].id) == (KEPT, "notes-d4")
    assert (await store.delivery("notes", "notes-d1")).waits
    with pytest.raises(NotFound):
        await store.delivery("notes", "notes-d2")
    let_go, new = await store.add(delivery(forge_id="d-0"))
    assert (let_go.id, new) == ("notes-d2", False)
    await store.save([let_go])
    with pytest.raises(NotFound):
        await store.delivery("notes", "notes-d2")
    assert ids(await store.waiting("notes")) == ["notes-d1"]


async def test_an_app_can_be_forgotten(store: DeliveryStore) -> None:
    await added(store, "a")
    await added(store, "a", app="other")
    await store.forget("notes")
    assert (await store.deliveries("notes"), await store.waiting("notes")) == ([], [])
    assert (ids(await store.waiting("other")), await store.apps_waiting()) == (["other-d1"], {"other"})


@pytest.mark.parametrize("name", ["notes-d2", "other-d1", "notes-dx", "x", ""])
async def test_what_is_not_there_is_not_found(store: DeliveryStore, name: str) -> None:
    await added(store, "a")
    await added(store, "a", app="other")
    with pytest.raises(NotFound):
        await store.delivery("notes", name)


async def test_ids_are_remembered_for_a_week_and_not_for_ever(store: DeliveryStore, redis: Redis) -> None:
    await added(store, "a" * 10_000)
    (key,) = await redis.keys("build:delivered:*")
    assert 7 * 86400 < await redis.ttl(key) <= REMEMBERED_S
    assert len(key) < 100
