"""Manages the Redis user of apps, which may only read the plain keys that hold flag values (`flag:…`)."""

import hashlib

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from services.flags.store import MIRRORS


class RedisAppUser:
    """Manages the Redis user `app`, whose password every service can derive from the platform's token."""

    NAME = "app"
    # Commands that client libraries usually send by themselves, and commands that read.
    COMMANDS = ("auth", "hello", "ping", "select", "quit", "client|setinfo", "client|setname", "client|id")
    READS = ("get", "mget", "exists", "strlen", "ttl", "type")

    def __init__(self, redis: Redis, password: str) -> None:
        self._redis = redis
        self._digest = hashlib.sha256(password.encode()).hexdigest()
        self._has_rights = False

    def mirrors_changed(self) -> None:
        """Makes the next call of `keep` set the rights of the Redis user again, because the names of the keys that apps
        may read have changed.
        """
        self._has_rights = False

    async def keep(self) -> None:
        """Sets the rights of the Redis user if the names of the keys that apps may read have changed, or if a restart
        of Redis has lost the user. Otherwise does nothing, because with thousands of keys, setting the rights blocks
        Redis for a second and more. A background loop calls this method.
        """
        if self._has_rights and await self._is_there():
            return
        self._has_rights = True  # set first, because mirrors may change while they are read
        try:
            await self.ensure()
        except RedisError:
            self._has_rights = False
            raise

    async def _is_there(self) -> bool:
        try:
            await self._redis.acl_dryrun(self.NAME, "GET", "flag:")
        except ResponseError:  # the user does not exist
            return False
        return True

    async def ensure(self) -> None:
        """Creates the Redis user of apps, or corrects its rights. Idempotent. Connections that apps have opened stay
        open.
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
