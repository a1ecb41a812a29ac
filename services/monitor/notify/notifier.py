"""How a message gets to a person: the contract of what sends it. The only implementation is `apprise_notifier.py`."""

from dataclasses import dataclass
from typing import Protocol

from services.monitor.notify.message import Message


@dataclass(frozen=True)
class Address:
    """One recipient. `url` is a secret, `shown` is what may be seen of it. Two addresses with one `key` reach the same
    person. `server` names what is asked to send: it is not asked for everything at once. `problem`: why nothing can be
    sent there, or empty.
    """

    url: str
    key: str
    shown: str
    server: str
    problem: str = ""


class NotSent(Exception):
    """The message was not taken; the text says why, without secrets."""


class Notifier(Protocol):
    """Neither method blocks the event loop. Time-outs are the notifier's own: a call ends by itself, and a hanging
    server holds up nothing but calls of `send`.
    """

    async def addresses(self, url: str) -> list[Address]:
        """The recipients in an apprise URL, one address each, with the URL for that one alone. Touches no network. A
        URL that is not understood gives one address with a `problem`.
        """
        ...

    async def send(self, url: str, message: Message, delivery_id: str) -> None:
        """Returns once the recipient's server has taken the message; raises NotSent. Sent once for each call: nothing
        is tried again here, and a second call sends a second message. A cancelled call may have sent it, or may yet.
        The message bears `delivery_id`.
        """
        ...
