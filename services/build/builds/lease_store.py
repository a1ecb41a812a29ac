"""Ensures that one home runs the builds of a Redis. (A lock in the home ensures that one service works there.)"""

from typing import Any

from redis.asyncio import Redis

KEY = "build:lease"
LEASE_S = 15.0


class Lease:
    """Holds `build:lease`, the name of the home that runs the builds; it expires unless renewed within 15 s.

    The holder is a home and not a process: a killed service is followed by the next one in its home at once.
    """

    def __init__(self, redis: Redis, home: str) -> None:
        self._redis = redis
        self._home = home
        self._other_home: str | None = None

    async def hold(self) -> bool:
        """Takes the lease or renews it; returns False while another home has it. Raises RedisError."""
        holder: Any = await self._redis.set(KEY, self._home, nx=True, get=True, px=int(LEASE_S * 1000))
        if holder == self._home:
            await self._redis.pexpire(KEY, int(LEASE_S * 1000))
        self._other_home = None if holder in (None, self._home) else holder
        return self._other_home is None

    async def refusal(self) -> str | None:
        """Returns why no build runs here, as of the last look, for `/ready`; None if builds run."""
        return self._other_home and (
            f"a build service with another home (stack {self._other_home}) works on this Redis; its builds are run "
            "there. End it, or give each its own SLIPWAY_REDIS_URL"
        )
