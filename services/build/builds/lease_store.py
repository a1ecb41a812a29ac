"""Stores a lease that lets only one service run builds, even if several homes (data folders) share one Redis."""

from typing import Any

from redis.asyncio import Redis

KEY = "build:lease"
LEASE_S = 15.0


class Lease:
    """Stores which home (data folder) may run builds. The key `build:lease` holds the home's name and expires after 15
    s unless it is renewed. A home holds the lease, not a process, so that a restarted service need not wait until the
    lease expires.
    """

    def __init__(self, redis: Redis, home: str) -> None:
        self._redis = redis
        self._home = home
        self._other_home: str | None = None

    async def hold(self) -> bool:
        """Takes or renews the lease for this home. Returns True if this home now holds it, and False while another home
        does. Raises RedisError.
        """
        holder: Any = await self._redis.set(KEY, self._home, nx=True, get=True, px=int(LEASE_S * 1000))
        if holder == self._home:
            await self._redis.pexpire(KEY, int(LEASE_S * 1000))
        self._other_home = None if holder in (None, self._home) else holder
        return self._other_home is None

    async def refusal(self) -> str | None:
        """Returns the reason why this service runs no builds, as the last `hold` found, to be shown by `GET /ready`;
        None if it runs them.
        """
        return self._other_home and (
            f"a build service with another home (stack {self._other_home}) works on this Redis; its builds are run "
            "there. End it, or give each its own SLIPWAY_REDIS_URL"
        )
