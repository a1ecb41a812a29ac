"""Contract of the notifier, which sends a message to a person. The only implementation is `apprise_notifier.py`."""

from dataclasses import dataclass
from typing import Protocol

from services.monitor.notify.message import Message


@dataclass(frozen=True)
class Address:
    """One recipient."""

    url: str
    """The apprise URL for this recipient alone; a secret."""
    key: str
    """Identity of the recipient: two addresses with one key reach the same person."""
    shown: str
    """The address without its secrets."""
    server: str
    """Name of the server that sends, used to limit concurrent sends to it."""
    problem: str = ""
    """The reason why nothing can be sent there, or empty."""


class NotSent(Exception):
    """Raised when a message was not accepted; its text is the reason, without secrets."""


class Notifier(Protocol):
    """Sends messages without blocking the event loop.

    Time-outs are the notifier's own: a call ends by itself, and a hanging server delays only calls of `send`.
    """

    async def addresses(self, url: str) -> list[Address]:
        """Returns the recipients of an apprise URL, each with a URL for it alone. Uses no network. A URL that is not
        understood gives one address with a `problem`.
        """
        ...

    async def send(self, url: str, message: Message, delivery_id: str) -> None:
        """Sends the message once; returns when the recipient's server has accepted it, raises NotSent if not.

        It never retries, and a second call sends a second message. A cancelled call may have sent it, or may yet. The
        message contains `delivery_id`.
        """
        ...
