"""A notifier that keeps what it is given."""

from services.monitor.notify.message import Message
from services.monitor.notify.notifier import Address, NotSent


class FakeNotifier:
    """`fake://secret/a,b` reaches a and b. `down`: servers do not take anything. `sent`: recipient, subject, id."""

    def __init__(self) -> None:
        self.down = False
        self.sent: list[tuple[str, str, str]] = []

    async def addresses(self, url: str) -> list[Address]:
        if not url.startswith("fake://"):
            return [Address(url, url, "…", "", "… is no address")]
        secret, _, people = url.removeprefix("fake://").partition("/")
        return [
            Address(f"fake://{secret}/{person}", person, f"fake://****/{person}", secret)
            for person in people.split(",")
        ]

    async def send(self, url: str, message: Message, delivery_id: str) -> None:
        if self.down:
            raise NotSent("the server is down")
        self.sent.append((url.rpartition("/")[2], message.subject, delivery_id))
