"""Sends one health probe to an instance, as a visitor would: with the app's host name, over a new connection."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from string import punctuation
from urllib.parse import quote

from services.deployer.reconcile.probe_connection import HEAD_BYTES, ProbeConnection
from shared.manifest import FORWARDED_PROTO, MIB, HealthCheck
from shared.runtime.punctual import PunctualTimeout, punctual_wait

SECOND_S = 1.0
BODY_S = 0.2
# Errors of this process or machine, not of the app: no port, file descriptor or memory is left.
OWN_ERRORS = frozenset({errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ONE_AT_A_TIME = (
    "it answered, but while it keeps that connection it answers on no other: serve several at a time, or answer with "
    "`Connection: close`"
)

NEW_BYTES = 4 * MIB
ENDLESS = (
    f"but the answer does not end within 1 s and {NEW_BYTES // MIB} MiB, and Envoy's health check waits for its end: "
    "set run.health to a path with a short answer"
)


@dataclass(frozen=True)
class ProbeTarget:
    """Describes an instance to be probed."""

    address: str
    """`host:port`."""
    check: HealthCheck
    """Path and accepted statuses of the health check."""
    host: str
    """Host name for the `Host` header of the request."""
    is_new: bool
    """True until the instance is ready. A new instance is probed every 0.25 s with a time-out of 5 s; later, interval
    and time-out are 0.9 s.
    """

    @property
    def every_s(self) -> float:
        return 0.25 if self.is_new else 0.9

    @property
    def timeout_s(self) -> float:
        return 5.0 if self.is_new else 0.9

    def is_well(self, status: int) -> bool:
        """Returns True if an answer with this HTTP status counts as success."""
        return 200 <= status < self.check.below


class ProbeOutcome(StrEnum):
    """Names the outcomes of a probe. Only the app itself can cause `failed`; `late` may also be due to the machine."""

    ANSWERED = "answered"  # with an accepted status, or an accepted connection
    FAILED = "failed"  # another status, or a refused or broken connection
    LATE = "late"  # no answer in time
    UNSENT = "unsent"  # this machine has no port, file descriptor or memory left for the probe


@dataclass(frozen=True)
class ProbeResult:
    outcome: ProbeOutcome
    detail: str
    """Outcome in words for people."""
    lag_s: float
    """Seconds by which this process itself was late during the probe; they do not count for the time-out."""


async def send_probe(target: ProbeTarget) -> ProbeResult:
    """Probes the instance. A new instance must also send its answer to the end, and must answer on a second connection
    while the first is open, unless it closes connections after each answer. Envoy needs this, since it keeps a
    connection for its own health check besides those for visitors.
    """
    limit = PunctualTimeout(target.timeout_s)
    try:
        async with limit:
            outcome, detail = await _outcome(target)
    except TimeoutError:
        outcome, detail = ProbeOutcome.LATE, _failed(target, f"no answer within {target.timeout_s:g} s")
    return ProbeResult(outcome, detail, limit.lag_s)


async def _outcome(target: ProbeTarget) -> tuple[ProbeOutcome, str]:
    try:
        if not target.check.path:
            async with _connection(target, b"", reset=False):  # no reset, because the app may log one
                return ProbeOutcome.ANSWERED, f"{target.address} is open"
        return await _answer(target)
    except ConnectionRefusedError:
        return ProbeOutcome.FAILED, _failed(target, f"nothing listens on {target.address}")
    except OSError as error:
        outcome = ProbeOutcome.UNSENT if error.errno in OWN_ERRORS else ProbeOutcome.FAILED
        return outcome, _failed(target, f"{type(error).__name__}: {error}")


async def _answer(target: ProbeTarget) -> tuple[ProbeOutcome, str]:
    request = _request(target.check.path, target.host, may_keep=target.is_new)
    most_bytes = NEW_BYTES if target.is_new else HEAD_BYTES
    async with _connection(target, request, reset=not target.is_new, most_bytes=most_bytes) as connection:
        await connection.answered
        if connection.fault:
            return ProbeOutcome.FAILED, _failed(target, connection.fault)
        if not connection.ended.done():  # an app may log a connection that ends before its answer
            await punctual_wait(connection.ended, SECOND_S if target.is_new else BODY_S)
        said = f"GET {target.check.path} with Host {target.host} answered {connection.status}"
        if not target.is_well(connection.status):
            return ProbeOutcome.FAILED, said
        if target.is_new and (connection.is_cut or not connection.ended.done()):
            return ProbeOutcome.FAILED, f"{said}, {ENDLESS}"
        if target.is_new and connection.is_kept and (fault := await _fault_of_another(target)):
            return ProbeOutcome.FAILED, _failed(target, fault)
        return ProbeOutcome.ANSWERED, said


async def _fault_of_another(target: ProbeTarget) -> str:
    """Returns the reason why the instance does not answer on a second connection; empty if it does."""
    request = _request(target.check.path, target.host, may_keep=False)
    with contextlib.suppress(TimeoutError):
        async with PunctualTimeout(SECOND_S), _connection(target, request, reset=True) as connection:
            await connection.answered
            return connection.fault
    return ONE_AT_A_TIME


@contextlib.asynccontextmanager
async def _connection(
    target: ProbeTarget, request: bytes, *, reset: bool, most_bytes: int = HEAD_BYTES
) -> AsyncIterator[ProbeConnection]:
    """Opens a connection for the block and closes it afterwards; with `reset`, by a TCP reset. Reads at most about
    `most_bytes` of the answer. Raises OSError.
    """
    host, _, port = target.address.rpartition(":")
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: ProbeConnection(request, reset=reset, most_bytes=most_bytes), host, int(port)
    )
    try:
        yield connection
    finally:
        connection.close()


def _failed(target: ProbeTarget, why: str) -> str:
    return f"GET {target.check.path}: {why}" if target.check.path else why


@lru_cache(maxsize=1024)
def _request(path: str, host: str, may_keep: bool) -> bytes:
    head = (
        f"GET {quote(path, safe=punctuation)} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: slipway\r\nAccept: */*\r\n"
        f"X-Forwarded-Proto: {FORWARDED_PROTO}\r\n"
    )
    return f"{head}\r\n".encode() if may_keep else f"{head}Connection: close\r\n\r\n".encode()
