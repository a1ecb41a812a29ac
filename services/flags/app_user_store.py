"""Manages the Redis user of apps, which may only read the plain keys that hold flag values (`flag:…`)."""

import hashlib

from redis.asyncio import Redis

from services.flags.store import MIRRORS


class RedisAppUser:
    """Manages the Redis user `app`, whose password every service can derive from the platform's token."""

    NAME = "app"
    # What the usual client libraries send by themselves, and the reading commands.
    COMMANDS = ("auth", "hello", "ping", "select", "quit", "client|setinfo", "client|setname", "client|id")
    READS = ("get", "mget", "exists", "strlen", "ttl", "type")

    def __init__(self, redis: Redis, password: str) -> None:
        self._redis = redis
        self._digest = hashlib.sha256(password.encode()).hexdigest()

    async def ensure(self) -> None:
        """Creates the user or corrects its rights. Idempotent; connections that are logged in stay open. A loop repeats
        the call, because a restart of Redis loses the user.
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
