"""Decides for which hosts a certificate is to be got from the authority, and when to try again. Pure."""

from datetime import datetime, timedelta

from services.proxy.routes.certificate import Certificate, CertificateAttempt, CertificateSource
from services.proxy.routes.route import Route

ORDERS_PER_HOUR = 20
HOUR = timedelta(hours=1)
LONGEST = timedelta(hours=6)
LONGEST_UNREACHED = timedelta(minutes=10)
FIRST = timedelta(seconds=60)
FIRST_UNREACHED = timedelta(seconds=10)
NO_AUTHORITY = ".localhost"  # names that no authority can reach


def due_hosts(route: Route, now: datetime) -> list[str]:
    """Returns the app's hosts for which to try now: those without a certificate, and those whose certificate is from
    the authority and has less than a third of its life left. Wildcards are left out: HTTP-01 is not for them.
    """
    return [host for host in sorted(route.names) if "*" not in host and _is_due(route, host, now)]


def _is_due(route: Route, host: str, now: datetime) -> bool:
    if host.endswith(NO_AUTHORITY):
        return False
    attempt, certificate = route.attempts.get(host), route.certificates.get(host)
    if attempt and now < attempt.next_at:
        return False
    if certificate is None:
        return True
    return certificate.source is CertificateSource.ACME and now >= renew_at(certificate)


def renew_at(certificate: Certificate) -> datetime:
    """Returns the time at which a third of the certificate's life is left."""
    return certificate.not_after - (certificate.not_after - certificate.not_before) / 3


def is_overdue(certificate: Certificate, now: datetime) -> bool:
    """Returns True if the certificate should have been renewed, and half of the time for that is over."""
    due = renew_at(certificate)
    return now >= due + (certificate.not_after - due) / 2


def recent_orders(route: Route, now: datetime) -> list[datetime]:
    """Returns the times of the app's orders within the last hour, oldest first."""
    return sorted(at for at in route.orders if now - at < HOUR)


def failed_attempt(
    reason: str, before: CertificateAttempt | None, certificate: Certificate | None, now: datetime, *, ordered: bool
) -> CertificateAttempt:
    """Returns the record of an attempt that failed, with the time of the next one. The time between them doubles, up to
    6 h, or up to 10 min if the authority was not asked (`ordered`), or up to a tenth of the time for which the host's
    certificate is still valid.
    """
    failures = before.failures + 1 if before else 1
    first, longest = (FIRST, LONGEST) if ordered else (FIRST_UNREACHED, LONGEST_UNREACHED)
    wait = min(first * 2 ** min(failures - 1, 20), longest)
    if certificate is not None and certificate.not_after > now:
        wait = min(wait, max((certificate.not_after - now) / 10, timedelta(seconds=1)))
    return CertificateAttempt(at=now, reason=reason, failures=failures, next_at=now + wait)
