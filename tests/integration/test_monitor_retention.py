"""The monitor deletes what it stores of environments that are gone, on real Redis, with a stand-in for the deployer."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx
import pytest
from redis.asyncio import Redis

from services.monitor.config import Settings
from services.monitor.dispatch.outbox_store import OutboxStore, SendOutcome
from services.monitor.loops import FORGOTTEN_AT_ONCE, Retention
from services.monitor.notify.release_context import ReleaseContext
from services.monitor.retention_store import RetentionStore
from services.monitor.samples.sample_cache import SampleCache
from services.monitor.samples.sample_store import SampleStore
from services.monitor.scaling.policy_store import PolicyStore
from services.monitor.scaling.scaling_input import EnvironmentKey
from services.monitor.scaling.scaling_policy import Policy
from shared.errors import Problem
from shared.http import ServiceClient
from shared.models import Environment
from tests.support.monitor.monitor_world import NoRegistry
from tests.support.monitor.scaled import at, change, counters

pytestmark = pytest.mark.anyio


@dataclass
class World:
    """A monitor on a clock of its own. `running` and `released` are apps with an instance, or a release, there."""

    redis: Redis
    running: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    status: int = 200
    day: float = 0
    asked: int = 0
    is_trusted: bool = True

    def __post_init__(self) -> None:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.samples = SampleCache(SampleStore(self.redis))
        self.policies, self.outbox = PolicyStore(self.redis), OutboxStore(self.redis)
        client = ServiceClient("deployer", Settings(token="token"), NoRegistry(), http)
        self.retention = Retention(client, self.samples, RetentionStore(self.redis), self.now, self.trusts_clock)

    def now(self) -> datetime:
        return at(0) + timedelta(days=self.day)

    async def trusts_clock(self, now: datetime) -> bool:
        return self.is_trusted

    async def store(self, app: str) -> None:
        await self.policies.put_policy(Policy(app=app, environment=Environment.PRODUCTION, up=0.9))
        await self.policies.add(change(0, number=1, app=app))
        context = ReleaseContext(notify=["mailto://a@b.example"])
        await self.outbox.settle(SendOutcome(contexts={f"{app}:production": context}))

    async def kept(self, app: str) -> int:
        """Returns the number of stored policies, decisions and release contexts of the app."""
        key = EnvironmentKey(app, Environment.PRODUCTION)
        policies = [policy for policy in await self.policies.policies() if policy.key == key]
        return len(policies) + len(await self.policies.decisions(key, limit=9)) + len(await self.outbox.contexts(app))

    async def hour(self, day: float) -> None:
        self.day = day
        self.samples.record([counters(f"{app}-r1-1", app=app) for app in self.running], self.now())
        await self.retention.step()

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        app = request.url.path.split("/")[2]
        if app not in self.released and self.status == 200:
            return httpx.Response(404, json={"detail": "nothing was ever released"})
        release = {
            **{"id": f"{app}-r1", "app": app, "environment": "production", "build": f"{app}-1", "state": "live"},
            **{"commit": "0" * 40, "created_at": at(0).isoformat()},
        }
        return httpx.Response(self.status, json={"desired": {}, "release": release})


@pytest.fixture
def world(redis: Redis) -> World:
    return World(redis)


async def test_an_environment_without_instance_and_release_is_forgotten_after_ninety_days(world: World) -> None:
    world.running, world.released = ["runs", "stopped", "gone"], ["runs", "stopped"]
    for app in world.running:
        await world.store(app)
    await world.hour(0)
    world.running = ["runs"]
    await world.hour(89)
    assert (await world.kept("gone"), world.asked) == (3, 0)
    await world.hour(91)
    assert [await world.kept(app) for app in ("runs", "stopped", "gone")] == [3, 3, 0]
    assert await world.redis.exists("monitor:decisions:gone:production") == 0
    world.asked = 0
    await world.hour(92)
    assert world.asked == 0, "what has a release is asked about once in ninety days"
    await world.store("gone")
    await world.hour(93)
    assert await world.kept("gone") == 3, "it is back"


async def test_nothing_is_forgotten_by_a_clock_that_cannot_be_trusted(world: World) -> None:
    await world.store("gone")
    await world.hour(0)
    world.is_trusted = False
    await world.hour(365)
    assert await world.kept("gone") == 3
    world.is_trusted = True
    await world.hour(366)
    assert await world.kept("gone") == 0


async def test_nothing_is_forgotten_while_the_deployer_does_not_say_that_it_is_gone(world: World) -> None:
    await world.store("gone")
    await world.hour(0)
    world.samples.missed()
    world.day = 100
    await world.retention.step()
    assert (await world.kept("gone"), world.asked) == (3, 0)
    world.status = 503
    with pytest.raises(Problem):
        await world.hour(101)
    assert await world.kept("gone") == 3


async def test_what_an_earlier_version_stored_counts_from_now_on_and_goes_in_portions(world: World) -> None:
    apps = [f"app-{number}" for number in range(FORGOTTEN_AT_ONCE + 3)]
    for app in apps:
        await world.store(app)
    await world.hour(5000)
    assert world.asked == 0
    await world.hour(5091)
    assert sum([await world.kept(app) for app in apps]) == 3 * 3
    await world.hour(5091.1)
    assert sum([await world.kept(app) for app in apps]) == 0


async def test_a_policy_that_was_just_set_stays(world: World) -> None:
    await world.store("planned")
    await world.hour(0)
    world.day = 90.9
    await world.policies.put_policy(Policy(app="planned", environment=Environment.PRODUCTION, up=0.85))
    await world.hour(91)
    assert await world.kept("planned") == 3
