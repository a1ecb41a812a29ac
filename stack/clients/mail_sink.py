"""Runs a mail server that stores mails in memory, for tests and the demo."""

import contextlib
import email
import email.policy
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import NamedTuple
from urllib.parse import quote

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from stack.local.local_stack import free_ports

HOST = "127.0.0.1"


class Mail(NamedTuple):
    """Holds a mail to one recipient. `text` and `html` are empty if the mail has no such part."""

    to: str
    subject: str
    text: str
    html: str


class MailSink:
    """Runs a mail server that listens on `host`. `known_as` is its name in the URLs that senders get. `messages` holds
    all mails so far, oldest first; they survive `stop` and `start`, which keep the port.
    """

    def __init__(self, host: str = HOST, known_as: str = HOST) -> None:
        self.messages: list[Mail] = []
        self._host, self._known_as = host, known_as
        [self.port] = free_ports(1, host)
        self._arrived = threading.Condition()
        self._controller: Controller | None = None

    def url(self, to: str) -> str:
        """Returns an apprise URL that sends a mail to this server. `to` is one address, or several with commas."""
        return f"mailto://{self._known_as}:{self.port}/?from=slipway@slipway.example&to={quote(to, safe='@,')}"

    def start(self) -> None:
        """Starts the server. When it returns, connections are accepted."""
        self._controller = Controller(self, hostname=self._host, port=self.port)
        self._controller.start()

    def stop(self) -> None:
        """Stops the server. When it returns, connections are refused. Idempotent."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Stops the server during the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def wait_for(self, predicate: Callable[[list[Mail]], bool], timeout_s: float = 10.0) -> list[Mail]:
        """Waits until `predicate` returns True for the stored mails, and returns them. Raises TimeoutError, whose
        message lists their subjects.
        """
        deadline = time.monotonic() + timeout_s
        with self._arrived:
            while not predicate(self.messages):
                if not self._arrived.wait(deadline - time.monotonic()):
                    subjects = [mail.subject for mail in self.messages]
                    raise TimeoutError(f"after {timeout_s:g} s there are {len(subjects)} mails: {subjects}")
            return list(self.messages)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Stores a mail that has arrived. aiosmtpd calls it."""
        content = envelope.content or b""
        parsed = email.message_from_bytes(
            content if isinstance(content, bytes) else content.encode(), policy=email.policy.default
        )
        assert isinstance(parsed, EmailMessage)
        with self._arrived:
            for to in envelope.rcpt_tos:
                self.messages.append(Mail(to, str(parsed["Subject"]), _part(parsed, "plain"), _part(parsed, "html")))
            self._arrived.notify_all()
        return "250 kept"


@contextlib.contextmanager
def mail_sink(host: str = HOST, known_as: str = HOST) -> Iterator[MailSink]:
    """Runs a mail server during the block."""
    sink = MailSink(host, known_as)
    sink.start()
    try:
        yield sink
    finally:
        sink.stop()


def _part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    return str(body.get_content()) if body is not None else ""
