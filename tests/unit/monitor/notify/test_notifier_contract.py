"""The contract of Notifier, run against apprise (with a real mail server) and the fake."""

import asyncio
import re
from collections.abc import Iterator
from typing import Protocol

import pytest

from services.monitor.notify.apprise_notifier import AppriseNotifier
from services.monitor.notify.message import compose
from services.monitor.notify.notifier import Notifier, NotSent
from shared.security.outgoing import AddressGuard
from stack.clients.mail_sink import MailSink, mail_sink
from tests.support.monitor.fakes import FakeNotifier

pytestmark = pytest.mark.anyio

SECRET = "s3cret-t0ken"
MESSAGE = compose("It failed", ["badly"], [("app", "notes")], "http://build")


class World(Protocol):
    """A notifier with what it sends to."""

    notifier: Notifier

    def url(self, *people: str) -> str: ...

    def got(self) -> list[tuple[str, str, str]]:
        """Recipient, subject and delivery id of each message, in order."""
        ...

    def set_down(self, down: bool) -> None: ...


class FakeWorld:
    def __init__(self) -> None:
        self.fake = FakeNotifier()
        self.notifier: Notifier = self.fake

    def url(self, *people: str) -> str:
        return f"fake://{SECRET}/{','.join(people)}"

    def got(self) -> list[tuple[str, str, str]]:
        return self.fake.sent

    def set_down(self, down: bool) -> None:
        self.fake.down = down


class AppriseWorld:
    def __init__(self, sink: MailSink) -> None:
        self.sink = sink
        self.notifier: Notifier = AppriseNotifier(AddressGuard("127.0.0.0/8"), timeout_s=2.0)

    def url(self, *people: str) -> str:
        return self.sink.url(",".join(f"{person}@example.com" for person in people)) + f"&+X-Token={SECRET}"

    def got(self) -> list[tuple[str, str, str]]:
        ids = [re.findall(r"delivery (\S+)", mail.text)[-1] for mail in self.sink.messages]
        return [
            (mail.to.partition("@")[0], mail.subject, delivery_id)
            for mail, delivery_id in zip(self.sink.messages, ids, strict=True)
        ]

    def set_down(self, down: bool) -> None:
        if down:
            self.sink.stop()
        else:
            self.sink.start()


@pytest.fixture(params=["fake", "apprise"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield FakeWorld()
    else:
        with mail_sink() as sink:
            yield AppriseWorld(sink)


async def test_a_url_for_two_gives_an_address_for_each_alone(world: World) -> None:
    addresses = await world.notifier.addresses(world.url("ann", "bob"))
    assert [address.problem for address in addresses] == ["", ""]
    for address in addresses:
        await world.notifier.send(address.url, MESSAGE, "d1")
    assert world.got() == [("ann", "It failed", "d1"), ("bob", "It failed", "d1")]


async def test_who_is_reached_by_two_urls_has_one_key(world: World) -> None:
    [ann, bob] = await world.notifier.addresses(world.url("ann", "bob"))
    [alone] = await world.notifier.addresses(world.url("bob"))
    assert (alone.key == bob.key, alone.key == ann.key) == (True, False)
    assert ann.server == bob.server


async def test_what_is_shown_holds_no_secret(world: World) -> None:
    [address] = await world.notifier.addresses(world.url("ann"))
    assert "ann" in address.shown
    assert SECRET in address.url and SECRET not in address.shown


async def test_a_url_that_is_not_understood_gives_its_problem(world: World) -> None:
    [address] = await world.notifier.addresses(f"nonsense://{SECRET}/x")
    assert address.problem
    assert SECRET not in address.problem + address.shown


async def test_each_call_sends_one_message(world: World) -> None:
    for delivery_id in ("d1", "d1", "d2"):
        await world.notifier.send(world.url("ann"), MESSAGE, delivery_id)
    assert world.got() == [("ann", "It failed", each) for each in ("d1", "d1", "d2")]


async def test_a_server_that_is_down_is_said_without_secrets_and_not_tried_again(world: World) -> None:
    world.set_down(True)
    with pytest.raises(NotSent) as error:
        await world.notifier.send(world.url("ann"), MESSAGE, "d1")
    assert str(error.value) and SECRET not in str(error.value)
    world.set_down(False)
    await asyncio.sleep(0.3)
    assert world.got() == []
    await world.notifier.send(world.url("ann"), MESSAGE, "d1")
    assert world.got() == [("ann", "It failed", "d1")]
