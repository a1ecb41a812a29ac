"""Checks, for `/ready`, what every service needs: a working Redis, disk space and file descriptors."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from pydantic import Field

from shared.config import SharedSettings
from shared.host.machine import DiskWatch, descriptors_warning
from shared.host.port_holder import taken_by
from shared.host.redis_log import last_words
from shared.models import ServiceRecord, View
from shared.registry import Registry
from shared.store import RedisError, redis_words

Check = Callable[[], Awaitable[str | None]]
ANSWER_S = 1.5  # `/ready` is to answer in under 2 s


class Readiness(View):
    ready: bool
    problems: dict[str, str] = Field(default={}, description="Failed loop or dependency → why.")
    warnings: dict[str, str] = Field(default={}, description="Dependency that is close to a limit → what to do.")


class RedisWatch:
    """Checks whether Redis works, by a PING and by the outcome of the service's last announcement in the registry."""

    def __init__(self, registry: Registry, settings: SharedSettings) -> None:
        self._registry = registry
        self._log = settings.home / "logs" / "redis.log"
        self._settings = settings
        self._refusal: str | None = None

    async def announce(self, record: ServiceRecord) -> None:
        """Writes the service's record into the registry. Raises RedisError."""
        try:
            await self._registry.announce(record)
        except RedisError as error:
            self._refusal = redis_words(error)
            raise
        self._refusal = None

    async def problem(self) -> str | None:
        """Returns, as a check for `/ready`, why Redis does not answer or refuses writes, with the last warnings of its
        log if that is on this machine. Returns None if Redis works.
        """
        if (why := await self._silence() or self._refusal) is None:
            return None
        said, holder = last_words(self._log), await self._holder()
        parts = [
            why,
            f"its last words: {said}" if said else "",
            holder or "",
            f"{self._log} says more" if self._log.exists() else "see its log (`docker compose logs redis`)",
        ]
        return "; ".join(filter(None, parts))

    async def _holder(self) -> str | None:
        url = urlsplit(self._settings.redis_url)
        if url.hostname not in ("127.0.0.1", "localhost", self._settings.host):
            return None
        return await taken_by({"SLIPWAY_REDIS_URL": url.port or 6379}, ("redis-server", "valkey-server"))

    async def _silence(self) -> str | None:
        try:
            await asyncio.wait_for(self._registry.ping(), ANSWER_S)
        except TimeoutError:
            return self._refusal or f"Redis does not answer (nothing for {ANSWER_S:g} s)"
        except RedisError as error:
            return redis_words(error)
        if self._refusal and "does not answer" in self._refusal:
            self._refusal = None  # it answers again
        return None


def of_every_service(settings: SharedSettings, redis: RedisWatch) -> tuple[dict[str, Check], dict[str, Check]]:
    """Returns two sets of checks that all services share, those for problems and those for warnings, each by its name
    in the answer of `/ready`.
    """
    disk = DiskWatch(settings.home, settings.disk_limits)
    checks: dict[str, Check] = {"redis": redis.problem, "disk": disk.problem}
    warnings: dict[str, Check] = {"disk low": disk.warning, "descriptors": descriptors_warning}
    return checks, warnings


async def found(checks: Mapping[str, Check]) -> dict[str, str]:
    """Runs the checks at the same time. Returns check → text for those that report something. A check that raises an
    error reports the error.
    """
    texts = await asyncio.gather(*map(_text, checks.values()))
    return {name: text for name, text in zip(checks, texts, strict=True) if text}


async def _text(check: Check) -> str | None:
    try:
        return await check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
