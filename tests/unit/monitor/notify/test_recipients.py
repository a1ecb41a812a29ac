"""Messages go to the notifiers of SLIPWAY_NOTIFY and to those set over REST."""

from typing import Any

import pytest
from redis.asyncio import Redis

from services.monitor.notify.message import compose
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.notify.recipient import Recipient, wanted
from services.monitor.notify.recipients import PARSED_KEPT, NotifierList, Recipients
from shared.errors import Invalid, NotFound
from tests.support.kept_items import kept_items
from tests.support.monitor.fakes import FakeNotifier

pytestmark = pytest.mark.anyio

MESSAGE = compose("s", [], [], "http://b")


@pytest.fixture
def notifier() -> FakeNotifier:
    return FakeNotifier()


@pytest.fixture
def recipients(notifier: FakeNotifier, redis: Redis) -> Recipients:
    return Recipients(NotifierStore(redis), notifier, ["fake://s3cret/ops,both", "nonsense"])


async def put(recipients: Recipients, *items: dict[str, Any]) -> list[dict[str, Any]]:
    return [view.model_dump() for view in await recipients.replace(NotifierList.model_validate({"items": list(items)}))]


@pytest.mark.parametrize(
    ("events", "event", "is_wanted"),
    [
        ([], "build.failure", True),
        (["build.*"], "build.failure", True),
        (["build.*"], "alert.firing", False),
        (["alert.*", "build.failure"], "build.failure", True),
        (["*.failed"], "release.failed", True),
    ],
)
def test_a_notifier_wants_the_events_of_its_patterns(events: list[str], event: str, is_wanted: bool) -> None:
    recipient = Recipient(name="team", url="fake://x/y", events=events)
    assert wanted([recipient], event) == (["fake://x/y"] if is_wanted else [])
    assert wanted([recipient.model_copy(update={"enabled": False})], event) == []


async def test_those_of_the_settings_come_first_read_only_and_without_secrets(recipients: Recipients) -> None:
    views = await put(recipients, {"name": "team", "url": "fake://s3cret/ann"})
    assert [(view["name"], view["url"], view["read_only"], view["problem"]) for view in views] == [
        ("platform-1", "fake://****/ops fake://****/both", True, ""),
        ("platform-2", "…", True, "… is no address"),
        ("team", "fake://****/ann", False, ""),
    ]


async def test_an_item_without_a_url_or_with_the_one_shown_keeps_its_own(recipients: Recipients) -> None:
    await put(recipients, {"name": "team", "url": "fake://s3cret/ann,bob"})
    for url in (None, "fake://****/ann fake://****/bob"):
        [*_, view] = await put(recipients, {"name": "team", "url": url, "events": ["build.*"], "enabled": False})
        assert (view["url"], view["events"], view["enabled"]) == (
            "fake://****/ann fake://****/bob",
            ["build.*"],
            False,
        )
    await put(recipients, {"name": "team"})
    assert "fake://s3cret/ann" in {address.url for address in await recipients.addresses("build.failure", [])}


@pytest.mark.parametrize(
    ("items", "field", "words"),
    [
        ([{"name": "team"}], "items.0.url", "there is no notifier `team` whose URL could be kept"),
        ([{"name": "team", "url": "https://x"}], "items.0.url", "mailto://"),
        ([{"name": "platform-3", "url": "fake://x/y"}], "items.0.name", "SLIPWAY_NOTIFY"),
        ([{"name": "a", "url": "fake://x/y"}] * 2, "items.1.name", "give each its own name"),
        ([{"name": "a", "url": "fake://x/y", "events": ["biuld.*"]}], "items.0.events", "build.failure"),
    ],
)
async def test_a_wrong_list_is_refused_and_changes_nothing(
    recipients: Recipients, items: list[dict[str, Any]], field: str, words: str
) -> None:
    before = await put(recipients, {"name": "kept", "url": "fake://x/kept"})
    with pytest.raises(Invalid, match=words) as error:
        await put(recipients, *items)
    assert error.value.extra["errors"][0]["field"] == field
    assert [view.model_dump() for view in await recipients.views()] == before


async def test_each_person_is_told_once(recipients: Recipients) -> None:
    await put(recipients, {"name": "team", "url": "fake://other/both,ann", "events": ["build.*"]})
    for event, people in (
        ("build.failure", ["ops", "both", "nonsense", "ann", "bob"]),
        ("release.failed", ["ops", "both", "nonsense", "bob", "ann"]),
    ):
        found = await recipients.addresses(event, ["fake://manifest/bob,ann"])
        assert [address.key for address in found] == people


async def test_addresses_of_manifests_that_are_gone_take_no_memory(recipients: Recipients) -> None:
    for number in range(3 * PARSED_KEPT):
        [*_, last] = await recipients.addresses("build.failure", [f"fake://manifest/{number}"])
        assert last.key == str(number)
    assert kept_items(recipients) <= 4 * PARSED_KEPT


async def test_a_test_message_goes_to_one_or_all_and_says_why_not(
    recipients: Recipients, notifier: FakeNotifier
) -> None:
    await put(
        recipients, {"name": "team", "url": "fake://s/ann"}, {"name": "off", "url": "fake://s/off", "enabled": False}
    )
    results = await recipients.test(None, MESSAGE, "t1")
    assert [(each.name, each.recipient, each.ok, each.detail) for each in results] == [
        ("platform-1", "fake://****/ops", True, ""),
        ("platform-1", "fake://****/both", True, ""),
        ("platform-2", "…", False, "… is no address"),
        ("team", "fake://****/ann", True, ""),
    ]
    [result] = await recipients.test("off", MESSAGE, "t2")
    assert result.ok and [name for name, _, _ in notifier.sent] == ["ops", "both", "ann", "off"]
    notifier.down = True
    [result] = await recipients.test("team", MESSAGE, "t3")
    assert (result.ok, result.detail) == (False, "the server is down")
    with pytest.raises(NotFound, match="nobody"):
        await recipients.test("nobody", MESSAGE, "t4")
