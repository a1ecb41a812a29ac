"""The Redis user of apps, which may read the mirrors and nothing else."""

import hashlib

from redis.asyncio import Redis

from services.flags.store import MIRRORS


class RedisAppUser:
    """Manages the user `app`; its password is derived from the platform's token, so that every service can
    compute it.
    """

    NAME = "app"
    # What the usual client libraries send by themselves, and the reading commands.
    COMMANDS = ("auth", "hello", "ping", "select", "quit", "client|setinfo", "client|setname", "client|id")
    READS = ("get", "mget", "exists", "strlen", "ttl", "type")

    def __init__(self, redis: Redis, password: str) -> None:
        self._redis = redis
        self._digest = hashlib.sha256(password.encode()).hexdigest()

    async def ensure(self) -> None:
        """Creates or corrects the user. Idempotent, cheap, and harmless to clients that are logged in.

        Redis forgets the user when it restarts, so a loop repeats this.
        """
        mirrors = await self._redis.hkeys(MIRRORS)
        await self._redis.acl_setuser(
            self.NAME,
            enabled=True,
            reset=True,
            hashed_passwords=[f"+{self._digest}"],
            commands=[f"+{command}" for command in self.COMMANDS + self.READS],
            keys=["flag:*", *mirrors],
        )
