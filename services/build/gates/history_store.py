"""Stores in Redis the history that verdicts depend on: baselines, past test runs, quarantines."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from services.build.gates.baseline import Baseline
from services.build.gates.flaky import RUNS_KEPT, PastRun, Quarantine, merged
from shared.errors import NotFound


class HistoryStore:
    """Stores the history of tests and findings on which verdicts depend, in the keys `build:baselines:<app>` (branch →
    baseline, its last build that passed), `build:runs:<app>` (list of test runs) and `build:flaky:<app>` (test →
    quarantine). Every method raises `RedisError` if Redis is unreachable. Each write is atomic and idempotent.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def baseline(self, app: str, branch: str) -> Baseline | None:
        """Returns the baseline of the branch, the record of its last build that passed; None if no build of it has
        passed.
        """
        text: Any = await self._redis.hget(f"build:baselines:{app}", branch)
        return Baseline.model_validate_json(text) if text else None

    async def known(self, app: str) -> dict[str, list[float]] | None:
        """Returns the app's known findings, which do not count in gates: fingerprint → their figures, such as the
        lengths of functions. They are those of the first branch, by name, whose baseline records them. Returns an empty
        mapping if that baseline records that there are none, and None if no baseline records any: no build has passed
        since a person turned on the app's setting `baseline`.
        """
        stored: Any = await self._redis.hgetall(f"build:baselines:{app}")
        baselines = [Baseline.model_validate_json(stored[branch]) for branch in sorted(stored)]
        return next((each.known for each in baselines if each.known is not None), None)

    async def put_baseline(self, app: str, branch: str, baseline: Baseline) -> None:
        await self._redis.hset(f"build:baselines:{app}", branch, baseline.model_dump_json())

    async def runs(self, app: str) -> list[PastRun]:
        """Returns the app's last 40 test runs, newest first."""
        texts: Any = await self._redis.lrange(f"build:runs:{app}", 0, -1)
        return [PastRun.model_validate_json(text) for text in texts]

    async def record(self, app: str, run: PastRun, put: Sequence[Quarantine], drop: Sequence[str]) -> None:
        """Adds the test run `run`, stores the quarantines `put` and removes those of the tests `drop`, in one
        transaction. An earlier run of the same build and step is merged into `run`.
        """
        runs = f"build:runs:{app}"
        kept: Any = await self._redis.lrange(runs, 0, -1)
        async with self._redis.pipeline(transaction=True) as pipe:
            for text in kept:
                earlier = PastRun.model_validate_json(text)
                if (earlier.build, earlier.step) == (run.build, run.step):
                    pipe.lrem(runs, 0, text)
                    run = merged(earlier, run)
            text = run.model_dump_json()
            pipe.lrem(runs, 0, text)  # removes the copy that a repeated transaction would add
            pipe.lpush(runs, text)
            pipe.ltrim(runs, 0, RUNS_KEPT - 1)
            for quarantine in put:
                pipe.hset(f"build:flaky:{app}", quarantine.test, quarantine.model_dump_json())
            for test in drop:
                pipe.hdel(f"build:flaky:{app}", test)
            await pipe.execute()

    async def quarantines(self, app: str) -> dict[str, Quarantine]:
        """Returns test id → quarantine, including quarantines that have ended."""
        stored: Any = await self._redis.hgetall(f"build:flaky:{app}")
        return {test: Quarantine.model_validate_json(text) for test, text in stored.items()}

    async def put_quarantine(self, app: str, quarantine: Quarantine) -> None:
        await self._redis.hset(f"build:flaky:{app}", quarantine.test, quarantine.model_dump_json())

    async def drop_quarantine(self, app: str, test: str) -> None:
        """Removes the test's quarantine. Raises NotFound if there is none."""
        if not await self._redis.hdel(f"build:flaky:{app}", test):
            raise NotFound(f"{app} has no flaky test {test}; GET /apps/{app}/tests/flaky lists them")

    async def forget(self, app: str) -> None:
        """Removes the app's baselines, test runs and quarantines."""
        await self._redis.delete(f"build:baselines:{app}", f"build:runs:{app}", f"build:flaky:{app}")
