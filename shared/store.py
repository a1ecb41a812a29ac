"""Connects every service to Redis."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ConnectionError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
)

from shared.errors import Unavailable

__all__ = ["RedisError", "connect", "redis_fault", "redis_unavailable"]

CONNECTIONS = 50


def connect(url: str) -> Redis:
    """Returns a client that decodes replies to str and retries a broken connection with back-off, for about 1.5 s in
    all (a restart of Redis by its supervisor takes about 1 s). A retried XADD or INCR may apply twice: keep such writes
    idempotent. At most 50 connections; a further command waits up to 5 s for a free one.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=5,  # a command then waits for a free connection, where an ordinary pool would raise
        decode_responses=True,
        protocol=2,  # one shape of stream replies, whatever the server
        socket_timeout=5,
        socket_connect_timeout=1,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 5),
        retry_on_error=[ConnectionError, TimeoutError],
        driver_info=None,  # or each new connection looks up the client's version on disk, some ms in which all waits
    )
    return Redis.from_pool(pool)


def redis_fault(error: RedisError) -> str:
    """Returns what is wrong with Redis, in words for people; with the remedy, if a wait alone does not help."""
    if isinstance(error, BusyLoadingError):
        return "Redis is reading its data from the disk"
    if isinstance(error, OutOfMemoryError):
        return "Redis has as much memory as it may (OOM); raise its `maxmemory`, or delete what fills it"
    if isinstance(error, ReadOnlyError):
        return "Redis is a replica and takes no writes (READONLY); SLIPWAY_REDIS_URL has to name the primary"
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        return f"Redis refuses this service ({error}); give its password in SLIPWAY_REDIS_URL or `redis/password`"
    if "MISCONF" in str(error):
        return "Redis cannot write to its disk (MISCONF); give it space, its log says more"
    return f"Redis does not answer ({type(error).__name__})"


def redis_unavailable(error: RedisError) -> Unavailable:
    """Returns the 503 problem for a client whose request failed with this error of Redis."""
    return Unavailable(f"{redis_fault(error)}; the change may not have been made; try again in a moment")
