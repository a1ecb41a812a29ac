"""Stores the canary analyses of rollouts, so that a restart of the monitor loses none."""

import json
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

KEPT_S = 30 * 86_400


class AnalysisStore:
    """Stores the state of each rollout's canary analysis as JSON under `monitor:analysis:<release>`, until 30 days
    after the last change. Methods raise `redis.RedisError` if Redis does not answer.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def load(self, release: str) -> dict[str, Any] | None:
        """Returns the stored analysis; None if there is none, or it is not JSON."""
        text = await self._redis.get(_key(release))
        try:
            found = json.loads(text) if text else None
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    async def save(self, analyses: Mapping[str, Mapping[str, Any]]) -> None:
        """Stores these analyses: release → analysis."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for release, analysis in analyses.items():
                pipe.set(_key(release), json.dumps(analysis), ex=KEPT_S)
            await pipe.execute()

    async def forget(self, app: str) -> None:
        """Deletes the analyses of all rollouts of the app."""
        keys = [key async for key in self._redis.scan_iter(match=f"{_key(app)}-r*", count=1000)]
        mine = [key for key in keys if key.rpartition("-r")[0] == _key(app)]
        if mine:
            await self._redis.delete(*mine)


def _key(release: str) -> str:
    return f"monitor:analysis:{release}"
