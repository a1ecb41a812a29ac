"""Tests when a certificate is ordered and renewed, and when a failed attempt is repeated."""

from datetime import datetime, timedelta

import pytest

from services.proxy.certificates.renewal import due_hosts, failed_attempt, is_overdue, recent_orders, renew_at
from services.proxy.routes.certificate import Certificate, CertificateAttempt, CertificateSource
from services.proxy.routes.route import Route
from tests.support.proxy.certificates import HOST, certificate
from tests.support.proxy.routes import NOW, endpoint, route


def app(held: Certificate | None = None, next_at: datetime | None = None) -> Route:
    attempts = {HOST: CertificateAttempt(at=NOW, reason="", failures=1, next_at=next_at)} if next_at else {}
    hosts = [HOST, "*.example.com", "notes.localhost"]
    return route(endpoint("notes-r1-1")).model_copy(
        update={"hosts": hosts, "certificates": {HOST: held} if held else {}, "attempts": attempts}
    )


@pytest.mark.parametrize(
    ("given", "after", "expected"),
    [
        (app(), timedelta(), [HOST]),
        (app(certificate()), timedelta(days=59), []),
        (app(certificate()), timedelta(days=60), [HOST]),
        (app(certificate(source=CertificateSource.OWN)), timedelta(days=100), []),
        (app(next_at=NOW + timedelta(seconds=60)), timedelta(seconds=59), []),
        (app(next_at=NOW + timedelta(seconds=60)), timedelta(seconds=60), [HOST]),
        (app(certificate(), NOW + timedelta(days=61)), timedelta(days=60), []),
    ],
)
def test_a_certificate_is_got_at_once_and_renewed_at_a_third_of_its_life(
    given: Route, after: timedelta, expected: list[str]
) -> None:
    assert due_hosts(given, NOW + after) == expected


def test_a_renewal_is_overdue_when_half_of_the_time_for_it_is_over() -> None:
    held = certificate()
    assert renew_at(held) == NOW + timedelta(days=60)
    assert [is_overdue(held, NOW + timedelta(days=day)) for day in (60, 74, 75, 90)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("failures", "ordered", "held", "after", "wait"),
    [
        (0, True, None, timedelta(), timedelta(minutes=1)),
        (1, True, None, timedelta(), timedelta(minutes=2)),
        (60, True, None, timedelta(), timedelta(hours=6)),
        (0, False, None, timedelta(), timedelta(seconds=10)),
        (60, False, None, timedelta(), timedelta(minutes=10)),
        (60, True, certificate(), timedelta(days=60), timedelta(hours=6)),
        (60, True, certificate(), timedelta(days=89, hours=14), timedelta(hours=1)),
        (0, True, certificate(lasts=timedelta(seconds=60)), timedelta(seconds=40), timedelta(seconds=2)),
        (0, True, certificate(lasts=timedelta(seconds=60)), timedelta(seconds=55), timedelta(seconds=1)),
        (0, True, certificate(lasts=timedelta(seconds=60)), timedelta(seconds=90), timedelta(minutes=1)),
    ],
)
def test_the_time_to_the_next_attempt_doubles_up_to_a_bound(
    failures: int, ordered: bool, held: Certificate | None, after: timedelta, wait: timedelta
) -> None:
    now = NOW + after
    before = CertificateAttempt(at=NOW, reason="", failures=failures, next_at=NOW) if failures else None
    attempt = failed_attempt("why", before, held, now, ordered=ordered)
    assert attempt == CertificateAttempt(at=now, reason="why", failures=failures + 1, next_at=now + wait)


def test_orders_of_the_last_hour_are_counted() -> None:
    times = [NOW - timedelta(minutes=minutes) for minutes in (10, 59, 60, 61)]
    given = app().model_copy(update={"orders": times})
    assert recent_orders(given, NOW) == [NOW - timedelta(minutes=59), NOW - timedelta(minutes=10)]
