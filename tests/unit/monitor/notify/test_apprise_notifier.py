"""The notifier uses apprise as its module describes, beyond the contract of the port."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.monitor.notify.apprise_notifier import AppriseNotifier, redacted
from services.monitor.notify.message import compose
from services.monitor.notify.notifier import NotSent
from shared.security.outgoing import AddressGuard
from stack.clients.mail_sink import mail_sink
from tests.support.monitor.notification_stack import webhook

pytestmark = pytest.mark.anyio

MESSAGE = compose("It failed", ["badly <b>"], [("app", "notes")], "http://build", excerpt="a < b", excerpt_of="Log")
TOKENS = (
    ("jsons://me:s3cretpw@example.com/hook/t0kent0ken?+Authorization=he4derhe4der", "jsons://me:****@example.com/****"),
    ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops", "slack://T...2/A...D/T...Q/#ops"),
    ("mailto://me:s3cretpw@example.com/?to=ann@example.com", "mailto://me:****@example.com/ann@example.com"),
)


@pytest.mark.parametrize(("url", "shown"), TOKENS)
async def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    [address] = await AppriseNotifier(AddressGuard("127.0.0.0/8")).addresses(url)
    assert address.shown == shown


async def test_everyone_in_to_cc_and_bcc_is_a_recipient_of_their_own() -> None:
    with mail_sink() as sink:
        notifier = AppriseNotifier(AddressGuard("127.0.0.0/8"))
        url = f"{sink.url('ann@example.com,Ann@Example.com')}&cc=bob@example.com&bcc=eve@example.com&retry=3"
        addresses = await notifier.addresses(url)
        assert [address.shown.rpartition("/")[2] for address in addresses] == [
            "ann@example.com",
            "bob@example.com",
            "eve@example.com",
        ]
        for address in addresses:
            await notifier.send(address.url, MESSAGE, "d1")
        assert [mail.to for mail in sink.messages] == ["ann@example.com", "bob@example.com", "eve@example.com"]


async def test_several_telephone_numbers_are_several_recipients() -> None:
    account = f"twilio://AC{'a' * 32}:{'b' * 32}@12345678901"
    addresses = await AppriseNotifier(AddressGuard("127.0.0.0/8")).addresses(f"{account}/11111111111/22222222222")
    assert [address.shown.rpartition("/")[2] for address in addresses] == ["+11111111111", "+22222222222"]
    assert all("bbbb" not in address.shown for address in addresses)


@pytest.mark.parametrize(("form", "has_html"), [("", True), ("&format=text", False)])
async def test_a_mail_has_html_and_text_or_only_text_if_the_url_wants_that(form: str, has_html: bool) -> None:
    with mail_sink() as sink:
        await AppriseNotifier(AddressGuard("127.0.0.0/8")).send(sink.url("ann@example.com") + form, MESSAGE, "d1")
        [mail] = sink.messages
    assert ("badly &lt;b&gt;" in mail.html) is has_html
    assert "badly <b>" in mail.text and "a < b" in mail.text and "delivery d1" in mail.text


async def test_retries_in_the_url_do_not_multiply_ours() -> None:
    with mail_sink() as sink:
        url = sink.url("ann@example.com") + "&retry=5&wait=10"
        sink.stop()
        started = time.monotonic()
        with pytest.raises(NotSent, match="Connection refused"):
            await AppriseNotifier(AddressGuard("127.0.0.0/8")).send(url, MESSAGE, "d1")
    assert time.monotonic() - started < 9, "less than one of its waits"


async def test_a_server_that_hangs_costs_its_time_out_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mailto://127.0.0.1:{server.getsockname()[1]}/?from=a@b.example&to=c@d.example&cto=600"
        started = time.monotonic()
        sending = asyncio.create_task(
            AppriseNotifier(AddressGuard("127.0.0.0/8"), timeout_s=0.5).send(url, MESSAGE, "d1")
        )
        await asyncio.sleep(0)
        assert not sending.done(), "nothing blocks the loop"
        with pytest.raises(NotSent, match="timed out"):
            await sending
    assert 0.5 <= time.monotonic() - started < 60


def test_an_error_holds_no_part_of_the_url_that_may_not_be_shown() -> None:
    url = "jsons://me:s3cretpw@example.com/hook/t0k%2Fen?%2BX=he4derhe4der&rto=4.0"
    text = "POST https://me:s3cretpw@example.com/hook/t0k%2Fen (t0k/en, he4derhe4der) failed after 4.0 s: 500"
    shown = "jsons://me:****@example.com/****"
    assert (
        redacted(text, url, shown) == "POST https://me:****@example.com/****/**** (****, ****) failed after 4.0 s: 500"
    )


@pytest.mark.slow
def test_apprise_is_imported_only_when_it_is_needed() -> None:
    code = "import sys; from services.monitor.main import build_app; sys.exit('apprise' in sys.modules)"
    root = Path(__file__).parents[4]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60).returncode == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "169.254.169.254"])
async def test_an_address_of_the_machine_is_not_called_unless_the_operator_wrote_or_allows_it(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"json://{host}:{server.getsockname()[1]}/?cto=1&rto=1"
        with pytest.raises(NotSent, match="the operator can allow it by SLIPWAY_ALLOW_ADDRESSES"):
            await AppriseNotifier(AddressGuard(), timeout_s=1).send(url, MESSAGE, "d1")
        with pytest.raises(TimeoutError):
            server.accept()


async def test_a_url_of_the_operator_may_lead_anywhere() -> None:
    with webhook() as (hook, requests):
        [address] = await AppriseNotifier(AddressGuard()).addresses(hook)
        await AppriseNotifier(AddressGuard(), trusted=[hook]).send(address.url, MESSAGE, "d1")
        assert len(requests) == 1


async def test_where_a_server_redirects_to_is_checked_too() -> None:
    """A server of an allowed address sends to another one of the machine."""

    class Redirect(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(307)
            self.send_header("Location", f"http://127.0.0.2:{port}/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as server:
        port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(NotSent) as caught:
                await AppriseNotifier(AddressGuard("127.0.0.1"), timeout_s=2).send(
                    f"json://127.0.0.1:{port}/?redirect=yes", MESSAGE, "d1"
                )
        finally:
            server.shutdown()
    assert "127.0.0.2 is an address of the machine" in str(caught.value)
