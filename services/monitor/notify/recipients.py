"""Manages the recipients that are not named in a manifest: those of SLIPWAY_NOTIFY, and those that people set over
REST.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field, StringConstraints

from services.monitor.notify.event_message import NOTIFIED
from services.monitor.notify.message import Message
from services.monitor.notify.notifier import Address, Notifier, NotSent
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.notify.recipient import Recipient, wanted
from shared.errors import Invalid, NotFound
from shared.models import Model, View
from shared.store import RedisError

NotifierName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
PLATFORM = "platform"  # prefix of the names of notifiers from SLIPWAY_NOTIFY
STORE_S = 1.0
PARSED_KEPT = 500  # parsed URLs: more than are in use, but old ones are dropped
REMEDY = "mailto://user:password@smtp.example.com/?to=team@example.com is one; https://appriseit.com/services/ has all"


class NotifierItem(Model):
    """Item of the request body of `PUT /notifiers`. If it has no `url`, or the one without secrets that GET shows, the
    notifier of that name keeps its URL.
    """

    name: NotifierName
    url: str | None = Field(None, min_length=1, max_length=2000, description="An apprise URL, for one or more people.")
    events: list[str] = Field(
        [], description="Patterns of event types, with * and ?; an empty list means all.", examples=[["build.*"]]
    )
    enabled: bool = True


class NotifierList(Model):
    items: list[NotifierItem] = Field(max_length=100)


class NotifierView(View):
    """Response item of `GET /notifiers`: a notifier without its secrets."""

    name: str
    url: str = Field(description="The URL without its secrets.")
    events: list[str]
    enabled: bool
    read_only: bool = Field(description="True if it comes from SLIPWAY_NOTIFY.")
    problem: str = Field("", description="Reason why nothing can be sent there.")


class TestResult(View):
    """Response item of `POST /notifiers/test`. `detail` says why the recipient's server refused the message; empty if
    it did not.
    """

    name: str
    recipient: str
    ok: bool
    detail: str = ""


class Recipients:
    """Finds, replaces and tests the recipients of messages. Methods raise RedisError if the store is unreachable."""

    def __init__(self, store: NotifierStore, notifier: Notifier, platform_urls: Sequence[str]) -> None:
        self._store = store
        self._notifier = notifier
        self._platform = [
            Recipient(name=f"{PLATFORM}-{number}", url=url) for number, url in enumerate(platform_urls, start=1)
        ]
        self._parsed: dict[str, list[Address]] = {}
        self._kept: Sequence[Recipient] = []
        """The notifiers in the store, as they were read last."""

    async def views(self) -> list[NotifierView]:
        """Returns all notifiers, those from SLIPWAY_NOTIFY first."""
        return [await self._view(each) for each in [*self._platform, *await self._stored()]]

    async def replace(self, body: NotifierList) -> list[NotifierView]:
        """Replaces the notifiers that people set over REST. Raises Invalid with the field of an item that cannot be
        used, and then changes nothing.
        """
        before = {each.name: each for each in await self._store.recipients()}
        after: dict[str, Recipient] = {}
        for number, item in enumerate(body.items):
            at = f"items.{number}"
            if item.name.startswith(f"{PLATFORM}-"):
                raise Invalid(f"{at}.name", "is reserved for addresses from SLIPWAY_NOTIFY; choose another name")
            if item.name in after:
                raise Invalid(f"{at}.name", f"`{item.name}` is there twice; give each its own name")
            for pattern in item.events:
                if not any(fnmatchcase(event, pattern) for event in NOTIFIED):
                    raise Invalid(f"{at}.events", f"`{pattern}` matches none of the events {', '.join(NOTIFIED)}")
            url = await self._url(item, before.get(item.name), at)
            after[item.name] = Recipient(name=item.name, url=url, events=item.events, enabled=item.enabled)
        await self._store.put_recipients(list(after.values()))
        return await self.views()

    async def addresses(self, event: str, manifest: Iterable[str]) -> list[Address]:
        """Returns the addresses that get a message about an event of this type, without duplicates: first those of
        notifiers, then those in the `manifest`.
        """
        return await self._unique([*wanted([*self._platform, *await self._stored()], event), *manifest])

    async def last_addresses(self, event: str) -> list[Address]:
        """Returns the notifiers' addresses that get a message about an event of this type, without duplicates. While
        the store does not answer, uses the notifiers that it had when it was read last.
        """
        with contextlib.suppress(RedisError, TimeoutError):
            await asyncio.wait_for(self._stored(), STORE_S)
        return await self._unique(wanted([*self._platform, *self._kept], event))

    async def _stored(self) -> Sequence[Recipient]:
        self._kept = await self._store.recipients()
        return self._kept

    async def _unique(self, urls: Iterable[str]) -> list[Address]:
        found: dict[str, Address] = {}
        for url in urls:
            for address in await self._addresses(url):
                found.setdefault(address.key, address)
        return list(found.values())

    async def test(self, name: str | None, message: Message, message_id: str) -> list[TestResult]:
        """Sends the message to the notifier `name` or, if that is None, to all enabled ones; returns the result for
        each recipient. Raises NotFound if there is no notifier of this name.
        """
        everyone = [*self._platform, *await self._store.recipients()]
        chosen = [each for each in everyone if (each.enabled if name is None else each.name == name)]
        if name is not None and not chosen:
            raise NotFound(f"there is no notifier {name}; GET /notifiers lists those there are")
        pairs = [(each.name, address) for each in chosen for address in await self._addresses(each.url)]
        return list(await asyncio.gather(*(self._try(each, address, message, message_id) for each, address in pairs)))

    async def _try(self, name: str, address: Address, message: Message, message_id: str) -> TestResult:
        detail = address.problem
        if not detail:
            try:
                await self._notifier.send(address.url, message, message_id)
            except NotSent as error:
                detail = str(error)
        return TestResult(name=name, recipient=address.shown, ok=not detail, detail=detail)

    async def _url(self, item: NotifierItem, before: Recipient | None, at: str) -> str:
        if before is not None and item.url in (None, await self._shown(before.url)):
            return before.url
        if item.url is None:
            raise Invalid(
                f"{at}.url", f"is missing, and there is no notifier `{item.name}` whose URL could be kept; {REMEDY}"
            )
        if (await self._addresses(item.url))[0].problem:
            raise Invalid(f"{at}.url", f"is not an address that apprise knows; {REMEDY}")
        return item.url

    async def _view(self, each: Recipient) -> NotifierView:
        addresses = await self._addresses(each.url)
        return NotifierView(
            name=each.name,
            url=await self._shown(each.url),
            events=each.events,
            enabled=each.enabled,
            read_only=each in self._platform,
            problem=addresses[0].problem,
        )

    async def _shown(self, url: str) -> str:
        return " ".join(address.shown for address in await self._addresses(url))

    async def _addresses(self, url: str) -> list[Address]:
        found = self._parsed.get(url)
        if found is None:
            found = await self._notifier.addresses(url)
            if len(self._parsed) >= PARSED_KEPT:
                self._parsed.clear()
            self._parsed[url] = found
        return found
