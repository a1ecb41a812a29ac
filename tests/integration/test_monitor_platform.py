"""The platform's own problems are alerts: told with the remedy, once, also by a monitor that was restarted."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.alerts.alert_store import AlertStore
from services.monitor.alerts.platform_watch import PlatformWatch
from services.monitor.config import Settings
from services.monitor.dispatch.direct_messages import DirectMessages
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.notify.recipients import NotifierList, Recipients
from shared.config import SERVICES, ServiceName
from shared.http import ServiceClient
from shared.store import RedisError
from tests.support.monitor.fakes import FakeNotifier
from tests.support.monitor.monitor_world import START, NoRegistry, appended_events
from tests.support.monitor.notification_stack import durable_redis

pytestmark = pytest.mark.anyio

FULL = "the disk of /home has 100 MiB of 40.0 GiB left, which is full for Slipway: enlarge the disk"
REDIS = "Redis does not answer (ConnectionError); its last words: Can't recover from AOF write error"


class Services:
    """Five services that say of themselves what they are told to, and the time."""

    def __init__(self) -> None:
        self.time = START
        self.down: dict[str, str | None] = {}
        """Services that do not answer, with who has their port."""
        self.problems: dict[str, dict[str, str]] = {}
        self.answers: dict[str, Any] = {}
        """Holds what something else answers at the service's port."""

    def answer(self, request: httpx.Request) -> httpx.Response:
        service = SERVICES[(request.url.port or 0) - 3000]
        assert request.headers["authorization"] == "Bearer token"
        if service in self.down:
            raise httpx.ConnectError("refused", request=request)
        if service in self.answers:
            return httpx.Response(200, text=self.answers[service])
        problems = self.problems.get(service, {})
        body = {"ready": not problems, "problems": problems, "warnings": {}}
        return httpx.Response(503 if problems else 200, json=body)

    async def holder(self, service: ServiceName) -> str | None:
        return self.down.get(service)


class Watch:
    """The monitor's parts that watch the platform, on a real Redis."""

    def __init__(self, services: Services, http: httpx.AsyncClient, redis: Redis, home: Path) -> None:
        settings = Settings(home=home, token=SecretStr("token"))
        self.services = services
        self.has_begun = False
        self.alerts = ActiveAlerts(AlertStore(redis))
        self.notifier = FakeNotifier()
        self.recipients = Recipients(NotifierStore(redis), self.notifier, ["fake://s/ops"])
        clients = {name: ServiceClient(name, settings, NoRegistry(), http) for name in SERVICES}
        self.platform = PlatformWatch(clients, self.alerts, services.holder, self.clock, lambda: None)
        self.direct = DirectMessages(self.alerts, self.recipients, self.notifier, "http://m/alerts", self.clock)

    def clock(self) -> datetime:
        return self.services.time

    async def rounds(self, number: int = 1) -> None:
        if not self.has_begun:
            self.has_begun = True
            await self.platform.step()  # which does not ask yet
        for _ in range(number):
            self.services.time += timedelta(seconds=5)
            await self.platform.step()
            await self.direct.step()

    def states(self) -> dict[str, str]:
        return {alert.id: str(alert.state) for alert in self.alerts.alerts()}

    def reason(self, name: str) -> str:
        alert = self.alerts.get(name)
        assert alert is not None
        return alert.reason


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
async def start(services: Services, tmp_path: Path, redis: Redis) -> AsyncIterator[Callable[[], Watch]]:
    """Makes a monitor on the same Redis as the one before."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(services.answer)) as http:
        yield lambda: Watch(services, http, redis, tmp_path)


async def test_a_full_disk_is_one_alert_with_its_remedy_and_has_one_end(
    start: Callable[[], Watch], services: Services, redis: Redis
) -> None:
    watch = start()
    services.problems = {"build": {"disk": FULL}, "deployer": {"disk": FULL}}
    await watch.rounds(3)
    assert watch.states() == {"disk:platform": "pending"}
    await watch.rounds()
    assert watch.states() == {"disk:platform": "firing"}
    assert watch.reason("disk:platform") == f"build, deployer: {FULL}"
    services.problems = {}
    await watch.rounds(11)
    assert watch.states() == {"disk:platform": "firing"}  # it may be full again in a moment
    await watch.rounds()
    assert watch.states() == {"disk:platform": "resolved"}
    await watch.alerts.flush()
    told = [(event.type, event.app, event.id) for event in await appended_events(redis)]
    assert told == [(f"alert.{state}", "", "disk:platform") for state in ("pending", "firing", "resolved")]


async def test_what_comes_and_goes_is_one_alert(start: Callable[[], Watch], services: Services, redis: Redis) -> None:
    watch = start()
    for number in range(40):  # Redis, which ends at each write, is started again each time
        services.problems = {"build": {"redis": REDIS}} if number % 3 == 0 else {}
        await watch.rounds()
    await watch.alerts.flush()
    assert [event.type for event in await appended_events(redis)] == ["alert.pending", "alert.firing"]


async def test_a_restart_of_a_service_is_no_alert(start: Callable[[], Watch], services: Services, redis: Redis) -> None:
    watch = start()
    services.down = {"proxy": None}
    services.problems = {"deployer": {"proxy": "proxy does not answer"}}
    await watch.rounds(2)
    services.down, services.problems = {}, {}
    await watch.rounds(14)
    await watch.alerts.flush()
    assert [event.type for event in await appended_events(redis)] == ["alert.pending"]
    assert watch.states() == {}


async def test_a_service_that_is_away_is_an_alert_that_says_who_has_its_port(
    start: Callable[[], Watch], services: Services
) -> None:
    watch = start()
    services.down = {"flags": "nc (process 77) has its port 3003: end that, or set SLIPWAY_FLAGS_PORT to another port"}
    services.answers = {"build": "<h1>ready to serve</h1>"}
    await watch.rounds(8)
    assert watch.states() == {"service:flags": "firing", "service:build": "firing"}
    assert watch.reason("service:flags").startswith("flags does not answer: ConnectError: nc (process 77) has its port")
    assert watch.reason("service:build") == "its answer cannot be read"


async def test_a_monitor_that_restarts_goes_on_with_the_alert_and_tells_its_end(
    start: Callable[[], Watch], services: Services, redis: Redis
) -> None:
    before = start()
    services.down = {"deployer": None}
    await before.rounds(8)
    await before.alerts.flush()
    services.time += timedelta(minutes=10)
    after = start()
    await after.rounds(8)
    assert after.states() == {"service:deployer": "firing"}
    services.down = {}
    last = start()  # and again, while it ends
    await last.rounds(2)
    assert last.states() == {"service:deployer": "firing"}
    await last.rounds(12)
    assert last.states() == {"service:deployer": "resolved"}
    await last.alerts.flush()
    kinds = [event.type for event in await appended_events(redis)]
    assert kinds == ["alert.pending", "alert.firing", "alert.resolved"]


async def test_a_redis_that_ended_is_told_at_once_and_its_return_too(services: Services, tmp_path: Path) -> None:
    """With a real server that is killed: nothing can be stored, so the message is sent past the store."""
    with durable_redis(tmp_path / "redis") as server:
        async with httpx.AsyncClient(transport=httpx.MockTransport(services.answer)) as http:
            watch = Watch(services, http, server.client, tmp_path)
            team = {"name": "team", "url": "fake://s/team", "events": ["alert.*"]}
            await watch.recipients.replace(NotifierList.model_validate({"items": [team]}))
            await watch.rounds()
            server.kill()
            services.problems = {each: {"redis": REDIS, "loop events": "away"} for each in SERVICES}
            watch.notifier.down = True
            await watch.rounds(5)
            assert (watch.states(), watch.notifier.sent) == ({"redis:platform": "firing"}, [])
            watch.notifier.down = False
            await watch.rounds(3)
            assert sorted(to for to, _, _ in watch.notifier.sent) == ["ops", "team"]
            assert {subject[:75] for _, subject, _ in watch.notifier.sent} == {
                "the platform: firing: redis: all services: Redis does not answer (Connectio"
            }
            with pytest.raises(RedisError):
                await watch.alerts.flush()
            server.start()
            services.problems = {}
            await watch.rounds(2)
            await watch.alerts.flush()
            after = Watch(services, http, server.client, tmp_path)  # a new process does not tell again what was told
            await after.rounds(20)
            assert after.states() == {"redis:platform": "resolved"}
            assert [subject for _, subject, _ in after.notifier.sent] == ["the platform: resolved: redis"] * 2
            await after.alerts.flush()
            last = Watch(services, http, server.client, tmp_path)
            await last.rounds(3)
            assert last.notifier.sent == []
            await server.client.aclose()
