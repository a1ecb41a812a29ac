"""Tests when no certificate is ordered, and what is shown then. The integration tests order some, with real Envoy."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.proxy.certificates.account_file import AccountFile
from services.proxy.certificates.acme_client import AcmeAccount, AcmeClient
from services.proxy.certificates.certificate_service import CertificateService
from services.proxy.certificates.issuer import CertificateIssuer
from services.proxy.envoy.files import certificate_vault, envoy_folder
from services.proxy.routes.certificate import CertificateAttempt, CertificateSource
from tests.support.proxy.certificates import DAYS_90, HOST, certificate
from tests.support.proxy.plane import Plane
from tests.support.proxy.proxy_stack import App
from tests.support.proxy.routes import NOW, endpoint, route

pytestmark = pytest.mark.anyio

NOTES = route(endpoint("notes-r1-1")).model_copy(update={"hosts": ["localhost"]})
NOWHERE = "https://127.0.0.1:1/directory"


class Issuing:
    """The issuer of a control plane, with an authority that is away; hosts are asked at `port`."""

    def __init__(self, plane: Plane, port: int = 1) -> None:
        folder = envoy_folder(plane.settings)
        self.control = plane.control
        vault = partial(certificate_vault, folder)
        self.service = CertificateService(plane.control, vault)
        self.account = AccountFile(folder, vault, NOWHERE, "")
        self.issuer = CertificateIssuer(plane.control, self.service, AcmeClient(NOWHERE, None), self.account, port)

    async def attempt(self) -> CertificateAttempt:
        await self.issuer.step()
        return self.control.route("notes").attempts["localhost"]


@pytest.fixture
async def issuing(tmp_path: Path, redis: Redis) -> AsyncIterator[Issuing]:
    issuing = Issuing(Plane(tmp_path, redis, NOTES))
    yield issuing
    await issuing.issuer.close()


async def test_a_host_that_nobody_serves_is_not_ordered(issuing: Issuing) -> None:
    attempt = await issuing.attempt()

    assert attempt.reason.startswith("localhost does not lead here (ConnectError")
    assert "let port 1 reach Slipway's public port" in attempt.reason
    assert attempt.next_at == NOW + timedelta(seconds=10)
    assert (issuing.control.route("notes").orders, issuing.control.route("notes").challenges) == ([], {})


async def test_a_host_that_leads_to_another_server_is_not_ordered(tmp_path: Path, redis: Redis) -> None:
    other = App("other")
    issuing = Issuing(Plane(tmp_path, redis, NOTES), other.port)
    try:
        attempt = await issuing.attempt()
    finally:
        other.close()
        await issuing.issuer.close()

    assert attempt.reason.startswith("localhost does not lead here (another server answered): point its DNS")


async def test_an_app_with_too_many_orders_waits(tmp_path: Path, redis: Redis) -> None:
    orders = [NOW - timedelta(minutes=minutes) for minutes in range(20)]
    issuing = Issuing(Plane(tmp_path, redis, NOTES.model_copy(update={"orders": orders})))

    attempt = await issuing.attempt()

    await issuing.issuer.close()
    assert attempt.reason.startswith(
        "20 certificates of notes were ordered within an hour; the next one can be at 2026"
    )


async def test_answers_of_an_interrupted_attempt_are_removed(tmp_path: Path, redis: Redis) -> None:
    left = NOTES.model_copy(update={"hosts": [], "challenges": {"token": "answer"}})
    issuing = Issuing(Plane(tmp_path, redis, left))

    await issuing.issuer.step()

    await issuing.issuer.close()
    assert issuing.control.route("notes").challenges == {}


async def test_an_account_is_stored_before_it_is_registered_and_kept_by_its_directory(issuing: Issuing) -> None:
    registered: list[str] = []

    class Authority(AcmeClient):
        def register(self, key: str, email: str) -> AcmeAccount:
            registered.append(key)
            assert issuing.account._path.exists()
            return AcmeAccount(key, "https://authority/1")

    client = Authority(NOWHERE, None)
    account = issuing.account.account(client)
    assert issuing.account.account(client) == account
    issuing.account.forget()
    assert issuing.account.account(client) == account  # registered again with the same key
    assert registered == [account.key] * 2
    assert "PRIVATE KEY" not in issuing.account._path.read_text()


@pytest.mark.parametrize(
    ("source", "days", "attempt", "expected"),
    [
        (CertificateSource.OWN, 75, None, None),
        (CertificateSource.OWN, 77, None, "expires at 2026-04-01T00:00:00+00:00: set a new one (PUT /apps/notes/"),
        (CertificateSource.OWN, 91, None, "expired at 2026-04-01T00:00:00+00:00: set a new one"),
        (CertificateSource.ACME, 74, None, None),
        (CertificateSource.ACME, 76, "port 80 is closed", "and could not be renewed: port 80 is closed; mend that, or"),
        (CertificateSource.ACME, 76, None, "no attempt has failed so far; is SLIPWAY_ACME_DIRECTORY set?"),
    ],
)
async def test_a_certificate_that_ends_soon_is_warned_of_with_the_remedy(
    tmp_path: Path, redis: Redis, source: CertificateSource, days: int, attempt: str | None, expected: str | None
) -> None:
    attempts = {HOST: CertificateAttempt(at=NOW, reason=attempt, failures=1, next_at=NOW)} if attempt else {}
    held = {HOST: certificate(source=source, lasts=DAYS_90)}
    update = {"hosts": [HOST], "certificates": held, "attempts": attempts}
    plane = Plane(tmp_path, redis, NOTES.model_copy(update=update))
    plane.now = NOW + timedelta(days=days)

    warning = await Issuing(plane).service.warning()

    assert (warning is None) if expected is None else (warning is not None and expected in warning)
