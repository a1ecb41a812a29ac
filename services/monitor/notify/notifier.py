"""Defines the interface (port) of the notifier, which sends messages to people; `apprise_notifier.py` implements it."""

from dataclasses import dataclass
from typing import Protocol

from services.monitor.notify.message import Message


@dataclass(frozen=True)
class Address:
    """Describes one recipient of messages."""

    url: str
    """Apprise URL for this recipient alone; a secret."""
    key: str
    """Identity of the recipient. Two addresses with the same key reach the same person."""
    shown: str
    """URL without its secrets, for display."""
    server: str
    """Name of the server that gets the messages, by which the number of sends to it at the same time is limited."""
    problem: str = ""
    """Reason why nothing can be sent to this recipient; empty if there is none."""


class NotSent(Exception):
    """Reports that a message was not accepted; its text is the reason, without secrets."""


class Notifier(Protocol):
    """Sends messages without blocking the event loop. It has time-outs of its own, so that each call ends by itself. A
    server that hangs delays only calls of `send`.
    """

    async def addresses(self, url: str) -> list[Address]:
        """Returns the recipients of an apprise URL, each with a URL of its own, without using the network. A URL that
        apprise does not understand gives one address with a `problem`.
        """
        ...

    async def send(self, url: str, message: Message, delivery_id: str) -> None:
        """Sends the message once, and returns when the recipient's server has accepted it. Raises NotSent if the server
        does not. The message contains `delivery_id`, but a second call still sends it again. If the call is cancelled,
        it is unknown whether the message is sent.
        """
        ...
