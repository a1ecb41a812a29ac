"""Connects every service to Redis."""

import re

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ConnectionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from shared.errors import Unavailable

__all__ = ["RedisError", "connect", "redis_unavailable", "redis_words"]

CONNECTIONS = 50
REFUSALS = (ResponseError, AuthenticationError, AuthorizationError, BusyLoadingError)
REMEDIES = {
    "BusyLoading": "it reads its data from the disk, and is ready soon",
    "OutOfMemory": "raise its `maxmemory`, or delete what fills it",
    "ReadOnly": "it is a replica; SLIPWAY_REDIS_URL has to name the primary",
    "MISCONF": "it cannot write to its disk; give that space",
    "Auth": "give its password in SLIPWAY_REDIS_URL, or in the file `redis/password`",
    "Permission": "give its password in SLIPWAY_REDIS_URL, or in the file `redis/password`",
}
IN_PIPELINE = re.compile(r"Command # .* of pipeline caused error: \(['\"](?P<words>.*)['\"],\)", re.DOTALL)


def connect(url: str) -> Redis:
    """Returns a client that decodes replies to str and retries a broken connection with back-off, for about 1.5 s in
    all (a restart of Redis by its supervisor takes about 1 s). A retried XADD or INCR may be applied twice, so such
    writes must be idempotent. It opens at most 50 connections; a further command waits up to 5 s for a free one.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=5,  # a command waits for a free connection, while an ordinary pool would raise an error
        decode_responses=True,
        protocol=2,  # replies of streams have the same shape from every server
        socket_timeout=5,
        socket_connect_timeout=1,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 5),
        retry_on_error=[ConnectionError, TimeoutError],
        driver_info=None,  # otherwise each new connection reads the client's version from disk, which blocks some ms
    )
    return Redis.from_pool(pool)


def redis_words(error: RedisError) -> str:
    """Returns a sentence about an error of Redis: that Redis does not answer, or why it refuses what was asked (a full
    disk, a replica, a wrong password), with the remedy.
    """
    if not isinstance(error, REFUSALS) or not str(error):
        return f"Redis does not answer ({type(error).__name__})"
    in_pipeline = IN_PIPELINE.fullmatch(str(error))
    words = in_pipeline["words"] if in_pipeline else str(error)
    remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in f"{type(error).__name__} {words}"), "")
    return f"Redis refuses what the platform asks of it: {words}{f' ({remedy})' if remedy else ''}"


def redis_unavailable(error: RedisError) -> Unavailable:
    """Returns the 503 problem for a client whose request failed because of this error of Redis."""
    return Unavailable(f"{redis_words(error)}; the change may not have been made; try again in a moment")
