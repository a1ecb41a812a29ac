"""Connects every service to Redis."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from shared.errors import Unavailable

__all__ = ["RedisError", "connect", "redis_unavailable"]


def connect(url: str) -> Redis:
    """Returns a client that decodes replies to str. It retries a broken connection for about 1.5 s (a restart of Redis
    takes about 1 s), and may then apply an XADD or INCR twice: make such writes idempotent.
    """
    client: Redis = Redis.from_url(
        url,
        decode_responses=True,
        protocol=2,  # one shape of stream replies, whatever the server
        socket_timeout=5,
        socket_connect_timeout=1,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 5),
        retry_on_error=[ConnectionError, TimeoutError],
        driver_info=None,  # or each new connection looks up the client's version on disk, some ms in which all waits
    )
    return client


def redis_unavailable(error: RedisError) -> Unavailable:
    """Returns the 503 problem for a client whose request failed with this error of Redis."""
    name = type(error).__name__
    return Unavailable(f"Redis does not answer ({name}); the change may not have been made; try again in a moment")
