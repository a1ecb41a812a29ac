"""Stores the history that builds are judged by: baselines, past runs of tests, quarantines."""

from collections.abc import Sequence
from typing import Any, Protocol

from redis.asyncio import Redis

from services.build.gates.baseline import Baseline
from services.build.gates.flaky import RUNS_KEPT, PastRun, Quarantine
from shared.errors import NotFound


class HistoryStore(Protocol):
    """Stores an app's history. Every method raises `RedisError` when the store is out of reach. Each write is atomic
    and can be repeated, but a repeated `record` adds its run again."""

    async def baseline(self, app: str, branch: str) -> Baseline | None:
        """Returns the baseline: of the branch's last build that passed; None if there is none."""
        ...

    async def put_baseline(self, app: str, branch: str, baseline: Baseline) -> None: ...

    async def runs(self, app: str) -> list[PastRun]:
        """Returns the last 40 runs, newest first."""
        ...

    async def record(self, app: str, run: PastRun, put: Sequence[Quarantine], drop: Sequence[str]) -> None:
        """Adds a run, and puts and drops quarantines in the same transaction."""
        ...

    async def quarantines(self, app: str) -> dict[str, Quarantine]:
        """Returns the quarantines by test, also those that have ended."""
        ...

    async def put_quarantine(self, app: str, quarantine: Quarantine) -> None: ...

    async def drop_quarantine(self, app: str, test: str) -> None:
        """Removes a quarantine. Raises NotFound."""
        ...

    async def forget(self, app: str) -> None:
        """Removes everything of the app."""
        ...


class RedisHistoryStore:
    """Stores `build:baselines:<app>` (hash by branch), `build:runs:<app>` (list) and `build:flaky:<app>` (hash by
    test)."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def baseline(self, app: str, branch: str) -> Baseline | None:
        text: Any = await self._redis.hget(f"build:baselines:{app}", branch)
        return Baseline.model_validate_json(text) if text else None

    async def put_baseline(self, app: str, branch: str, baseline: Baseline) -> None:
        await self._redis.hset(f"build:baselines:{app}", branch, baseline.model_dump_json())

    async def runs(self, app: str) -> list[PastRun]:
        texts: Any = await self._redis.lrange(f"build:runs:{app}", 0, -1)
        return [PastRun.model_validate_json(text) for text in texts]

    async def record(self, app: str, run: PastRun, put: Sequence[Quarantine], drop: Sequence[str]) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.lpush(f"build:runs:{app}", run.model_dump_json())
            pipe.ltrim(f"build:runs:{app}", 0, RUNS_KEPT - 1)
            for quarantine in put:
                pipe.hset(f"build:flaky:{app}", quarantine.test, quarantine.model_dump_json())
            for test in drop:
                pipe.hdel(f"build:flaky:{app}", test)
            await pipe.execute()

    async def quarantines(self, app: str) -> dict[str, Quarantine]:
        stored: Any = await self._redis.hgetall(f"build:flaky:{app}")
        return {test: Quarantine.model_validate_json(text) for test, text in stored.items()}

    async def put_quarantine(self, app: str, quarantine: Quarantine) -> None:
        await self._redis.hset(f"build:flaky:{app}", quarantine.test, quarantine.model_dump_json())

    async def drop_quarantine(self, app: str, test: str) -> None:
        if not await self._redis.hdel(f"build:flaky:{app}", test):
            raise _not_known(app, test)

    async def forget(self, app: str) -> None:
        await self._redis.delete(f"build:baselines:{app}", f"build:runs:{app}", f"build:flaky:{app}")


class MemoryHistoryStore:
    """Stores the history in memory, for tests."""

    def __init__(self) -> None:
        self._baselines: dict[tuple[str, str], Baseline] = {}
        self._runs: dict[str, list[PastRun]] = {}
        self._quarantines: dict[str, dict[str, Quarantine]] = {}

    async def baseline(self, app: str, branch: str) -> Baseline | None:
        return self._baselines.get((app, branch))

    async def put_baseline(self, app: str, branch: str, baseline: Baseline) -> None:
        self._baselines[app, branch] = baseline

    async def runs(self, app: str) -> list[PastRun]:
        return list(self._runs.get(app, []))

    async def record(self, app: str, run: PastRun, put: Sequence[Quarantine], drop: Sequence[str]) -> None:
        self._runs[app] = [run, *self._runs.get(app, [])][:RUNS_KEPT]
        for quarantine in put:
            await self.put_quarantine(app, quarantine)
        for test in drop:
            self._quarantines.get(app, {}).pop(test, None)

    async def quarantines(self, app: str) -> dict[str, Quarantine]:
        return dict(self._quarantines.get(app, {}))

    async def put_quarantine(self, app: str, quarantine: Quarantine) -> None:
        self._quarantines.setdefault(app, {})[quarantine.test] = quarantine

    async def drop_quarantine(self, app: str, test: str) -> None:
        if self._quarantines.get(app, {}).pop(test, None) is None:
            raise _not_known(app, test)

    async def forget(self, app: str) -> None:
        self._baselines = {key: value for key, value in self._baselines.items() if key[0] != app}
        self._runs.pop(app, None)
        self._quarantines.pop(app, None)


def _not_known(app: str, test: str) -> NotFound:
    return NotFound(f"{app} has no flaky test {test}; GET /apps/{app}/tests/flaky lists them")
