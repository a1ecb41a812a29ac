"""Connects every service to Redis."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from shared.errors import Unavailable

__all__ = ["RedisError", "connect", "redis_unavailable"]

CONNECTIONS = 50


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


def redis_unavailable(error: RedisError) -> Unavailable:
    """Returns the 503 problem for a client whose request failed because of this error of Redis."""
    name = type(error).__name__
    return Unavailable(f"Redis does not answer ({name}); the change may not have been made; try again in a moment")
