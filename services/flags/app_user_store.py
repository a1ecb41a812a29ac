"""The Redis user that apps are given: it may read the mirrors, and nothing else."""

import hashlib

from redis.asyncio import Redis

from services.flags.store import MIRRORS


class RedisAppUser:
    """User `app`; its password is derived from the platform's token, so that nobody has to hand it on."""

    NAME = "app"
    # What the usual client libraries send by themselves, and the reading commands.
    COMMANDS = ("auth", "hello", "ping", "select", "quit", "client|setinfo", "client|setname", "client|id")
    READS = ("get", "mget", "exists", "strlen", "ttl", "type")

    def __init__(self, redis: Redis, password: str) -> None:
        self._redis = redis
        self._digest = hashlib.sha256(password.encode()).hexdigest()

    async def ensure(self) -> None:
        """Makes or corrects the user; cheap, and harmless to clients that are logged in. Redis forgets it when it
        restarts, so this is repeated.
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
