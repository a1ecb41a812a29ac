"""Whose builds are run on this Redis: those of one home. (That one service works in a home is its lock's to say.)"""

from typing import Any

from redis.asyncio import Redis

KEY = "build:lease"
LEASE_S = 15.0


class Lease:
    """`build:lease`: the home that holds it, until it is not renewed for 15 s.

    A home is asked, not a process: a service that was killed is followed by the next one in its home at once.
    """

    def __init__(self, redis: Redis, home: str) -> None:
        self._redis = redis
        self._home = home
        self._refusal: str | None = None

    async def hold(self) -> bool:
        """Takes it or renews it; False while another home has it. Raises RedisError."""
        holder: Any = await self._redis.set(KEY, self._home, nx=True, get=True, px=int(LEASE_S * 1000))
        if holder == self._home:
            await self._redis.pexpire(KEY, int(LEASE_S * 1000))
        held = holder is None or holder == self._home
        self._refusal = None if held else _refusal(str(holder))
        return held

    async def refusal(self) -> str | None:
        """For `/ready`: why no build is run here, as of the last look; None if they are."""
        return self._refusal


def _refusal(holder: str) -> str:
    return (
        f"a build service with another home (stack {holder}) works on this Redis; its builds are run there. "
        "End it, or give each its own SLIPWAY_REDIS_URL"
    )
