"""Defines the port of the notifier, which sends messages to people; `apprise_notifier.py` implements it."""

from dataclasses import dataclass
from typing import Protocol

from services.monitor.notify.message import Message


@dataclass(frozen=True)
class Address:
    """One recipient of messages."""

    url: str
    """The apprise URL for this recipient alone; a secret."""
    key: str
    """Identity of the recipient: two addresses with one key reach the same person."""
    shown: str
    """The address without its secrets."""
    server: str
    """Name of the server that sends, used to limit concurrent sends to it."""
    problem: str = ""
    """Reason why nothing can be sent there; empty if there is none."""


class NotSent(Exception):
    """Raised when a message was not accepted; its text is the reason, without secrets."""


class Notifier(Protocol):
    """Sends messages without blocking the event loop. The notifier has its own time-outs, so each call ends by itself;
    a hanging server delays only calls of `send`.
    """

    async def addresses(self, url: str) -> list[Address]:
        """Returns the recipients of an apprise URL, each with a URL of its own, without using the network. A URL that
        is not understood gives one address with a `problem`.
        """
        ...

    async def send(self, url: str, message: Message, delivery_id: str) -> None:
        """Sends the message once, and returns when the recipient's server has accepted it. Raises NotSent if it does
        not. The message contains `delivery_id`, but a second call sends it again. After a cancelled call it is unknown
        whether the message was or will be sent.
        """
        ...
