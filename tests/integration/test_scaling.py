"""Scaling of memory: decisions in Redis, the loop beside a deployer that answers as it is told, REST."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.monitor.api.policies import policies_router
from services.monitor.config import Settings
from services.monitor.samples.sample_cache import SampleCache
from services.monitor.samples.sample_store import SampleStore
from services.monitor.scaling.policy_store import DECISIONS_KEPT, PolicyStore
from services.monitor.scaling.scaling_decision import Action, Cause, Decision, DecisionState, Past, scaling_event
from services.monitor.scaling.scaling_input import EnvironmentKey, Kill, kill_of
from services.monitor.scaling.scaling_loop import Scaling
from services.monitor.scaling.scaling_policy import Policy
from shared.http import ServiceClient
from shared.models import Environment, Event, InstanceStats
from shared.registry import Registry
from shared.store import connect
from shared.web.app import create_app
from tests.support.kept_items import kept_items
from tests.support.monitor.monitor_world import NoRegistry, appended_events
from tests.support.monitor.scaled import KEY, MIB, at, change, counters
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio
PATH = "/apps/notes/environments/production"
TOKEN = "platform-token"


# --- the store ------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(redis: Redis) -> PolicyStore:
    return PolicyStore(redis)


def entry(number: int, action: Action = Action.NONE, **update: Any) -> Decision:
    state = None if action is Action.NONE else DecisionState.DECIDED
    return change(number, action, number=number, id=f"notes-production-{number}", state=state, **update)


async def test_decisions_come_newest_first_by_pages_and_the_newest_change_is_known(store: PolicyStore) -> None:
    assert await store.past(KEY) == Past()
    assert await store.environments() == []
    for number, action in ((1, Action.NONE), (2, Action.UP), (3, Action.NONE)):
        await store.add(entry(number, action))
    assert await store.environments() == [KEY]
    past = await store.past(KEY)
    assert (past.last, past.change) == (entry(3), entry(2, Action.UP))
    page = await store.decisions(KEY, limit=2)
    assert [decision.number for decision in page] == [3, 2]
    assert [decision.number for decision in await store.decisions(KEY, limit=2, before=2)] == [1]
    assert await store.decisions(EnvironmentKey("other", Environment.CANARY), limit=5) == []


async def test_an_entry_is_added_once_with_its_event_and_takes_the_one_before_along(
    store: PolicyStore, redis: Redis
) -> None:
    await store.add(entry(1))
    for _ in range(2):
        await store.add(entry(2, Action.UP), scaling_event(entry(2, Action.UP)), before=entry(1, count=7))
    assert [decision.count for decision in await store.decisions(KEY, limit=5)] == [1, 7]
    assert [(event.type, event.id) for event in await appended_events(redis)] == [
        ("scaling.decided", "notes-production-2")
    ]
    await store.update(entry(2, Action.UP).model_copy(update={"state": DecisionState.APPLIED}))
    assert [decision.state for decision in await store.decisions(KEY, limit=1)] == [DecisionState.APPLIED]


async def test_the_oldest_decisions_go(store: PolicyStore) -> None:
    for number in range(1, DECISIONS_KEPT + 3):
        await store.add(entry(number))
    kept = await store.decisions(KEY, limit=2 * DECISIONS_KEPT)
    assert (len(kept), kept[-1].number) == (DECISIONS_KEPT, 3)


async def test_a_policy_is_kept_by_its_place(store: PolicyStore) -> None:
    for up in (0.85, 0.9):
        await store.put_policy(Policy(app="notes", environment=Environment.CANARY, up=up))
    assert [(policy.key, policy.up) for policy in await store.policies()] == [
        (EnvironmentKey("notes", Environment.CANARY), 0.9)
    ]


async def test_a_store_out_of_reach_raises() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(RedisError):
        await PolicyStore(client).policies()
    await client.aclose()


# --- the loop -------------------------------------------------------------------------------------------------------


@dataclass
class Deployer:
    """`down`: it does not answer. `refuses`: what PATCH answers instead. `patched`: the bodies that it has taken."""

    stats: list[InstanceStats] = field(default_factory=lambda: [counters()])
    desired: int = 64 * MIB
    state: str = "live"
    down: bool = False
    refuses: int | None = None
    patched: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if self.down:
            raise httpx.ReadTimeout("silent", request=request)
        if request.method == "PATCH":
            if self.refuses:
                return httpx.Response(self.refuses, json={"detail": "memory: outside the manifest's bounds"})
            memory = httpx.Response(200, content=request.content).json()["memory"]
            self.patched.append(memory)
            self.desired = memory
            self.stats = [stats.model_copy(update={"memory_limit": memory}) for stats in self.stats]
        if request.url.path == "/stats":
            items = [stats.model_dump(mode="json") for stats in self.stats]
            return httpx.Response(200, json={"items": items, "next": None})
        release = {
            **{"id": "notes-r3", "app": "notes", "environment": "production", "build": "notes-3", "state": self.state},
            **{"commit": "0" * 40, "created_at": at(0).isoformat()},
        }
        return httpx.Response(200, json={"desired": {"memory": self.desired}, "release": release})


class Machine:
    """A monitor that scales, on a clock of its own; `restart` is the same with everything in memory forgotten."""

    def __init__(self, store: PolicyStore, sample_store: SampleStore) -> None:
        self.second = 0.0
        self.deployer = Deployer()
        self.store = store
        self.sample_store = sample_store
        self.restart()

    def restart(self) -> None:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.deployer.answer))
        settings = Settings(token=TOKEN)
        self.samples = SampleCache(self.sample_store)
        client = ServiceClient("deployer", settings, NoRegistry(), http)
        self.scaling = Scaling(client, self.samples, self.store, self.now)

    def now(self) -> datetime:
        return at(self.second)

    async def look(self, used: float, times: int = 1, **changes: Any) -> None:
        """So many samples of that use, MiB, 2 s apart, each followed by a step."""
        for _ in range(times):
            self.second += 2
            update = {"working_set": round(used * MIB), **changes}
            self.deployer.stats = [stats.model_copy(update=update) for stats in self.deployer.stats]
            self.samples.record(self.deployer.stats, self.now())
            await self.scaling.step()

    async def decisions(self) -> list[Decision]:
        return await self.store.decisions(KEY, limit=50)


@pytest.fixture
def machine(store: PolicyStore, redis: Redis) -> Machine:
    return Machine(store, SampleStore(redis))


async def test_three_full_samples_double_the_limit_once_and_tell_it_once(machine: Machine, redis: Redis) -> None:
    await machine.look(20, 3)
    await machine.look(56, 3)
    assert machine.deployer.patched == [128 * MIB]
    await machine.look(56, 8)
    assert machine.deployer.patched == [128 * MIB]
    newest, changed, before = await machine.decisions()
    assert (newest.action, newest.cause) == (Action.NONE, Cause.WITHIN_BAND)
    assert newest.count >= 5, "looks that come to the same are one entry, stored every 10 s"
    assert (changed.action, changed.from_, changed.to, changed.state) == (Action.UP, 64 * MIB, 128 * MIB, "applied")
    assert (before.cause, changed.inputs[0].id, changed.inputs[0].limit) == (Cause.WITHIN_BAND, "notes-r3-1", 64 * MIB)
    assert "64 → 128 MiB" in changed.reason
    [event] = await appended_events(redis)
    assert event.type == "scaling.decided"
    extra = event.model_extra or {}
    assert (extra["from"], extra["to"], extra["environment"]) == (64 * MIB, 128 * MIB, "production")


async def test_killed_after_the_decision_the_next_start_carries_it_out_and_tells_nothing_twice(
    machine: Machine, redis: Redis
) -> None:
    await machine.look(20)
    machine.deployer.down = True
    await machine.look(56, 3)
    [decided] = [decision for decision in await machine.decisions() if decision.action is Action.UP]
    assert decided.state is DecisionState.DECIDED
    machine.restart()
    machine.deployer.down = False
    await machine.look(56)
    assert machine.deployer.patched == [128 * MIB]
    assert [decision.state for decision in await machine.decisions() if decision.action is Action.UP] == ["applied"]
    assert [event.type for event in await appended_events(redis)] == ["scaling.decided"]


async def test_killed_after_the_call_the_next_start_sees_that_it_is_done(machine: Machine) -> None:
    await machine.look(20)
    machine.deployer.down = True
    await machine.look(56, 3)
    machine.restart()
    machine.deployer.down = False
    machine.deployer.stats = [stats.model_copy(update={"memory_limit": 128 * MIB}) for stats in machine.deployer.stats]
    await machine.look(56)
    assert machine.deployer.patched == []
    newest = next(decision for decision in await machine.decisions() if decision.action is Action.UP)
    assert (newest.state, newest.outcome) == (DecisionState.APPLIED, "every instance has that limit already")


async def test_what_the_deployer_refuses_is_said_and_not_repeated_at_once(machine: Machine) -> None:
    machine.deployer.refuses = 422
    await machine.look(56, 5)
    newest, refused = (await machine.decisions())[:2]
    assert (refused.state, refused.outcome) == (
        DecisionState.REFUSED,
        "the deployer refused: memory: outside the manifest's bounds",
    )
    assert newest.cause is Cause.COOLDOWN


async def test_an_oom_kill_is_answered_at_once_and_once(machine: Machine) -> None:
    await machine.look(20, 2)
    machine.scaling.killed(KEY, Kill("notes-r3-1", "notes-r3", 64 * MIB, 512 * MIB))
    await machine.look(20, oom_kills=1)
    assert machine.deployer.patched == [128 * MIB]
    machine.scaling.killed(KEY, Kill("notes-r3-1", "notes-r3", 64 * MIB, 512 * MIB))  # told again
    await machine.look(20, 2, oom_kills=1)
    assert machine.deployer.patched == [128 * MIB]
    assert [decision.cause for decision in await machine.decisions() if decision.action is Action.UP] == [
        Cause.OOM_KILL
    ], "that kill has had its answer"


async def test_an_oom_kill_at_the_cap_is_considered_once(machine: Machine) -> None:
    machine.deployer.stats, machine.deployer.desired = [counters(limit=512)], 512 * MIB
    await machine.look(20, 2)
    machine.scaling.killed(KEY, Kill("notes-r3-1", "notes-r3", 512 * MIB, 512 * MIB))
    await machine.look(20, oom_kills=1)
    newest, at_cap = (await machine.decisions())[0], len(machine.deployer.asked)
    assert newest.cause is Cause.AT_CAP
    await machine.look(300, 3, oom_kills=1)
    assert len(machine.deployer.asked) == at_cap, "nobody is asked about it again"
    assert (await machine.decisions())[0].cause is not Cause.AT_CAP


async def test_while_redis_is_away_nothing_is_changed_and_afterwards_it_is(machine: Machine, redis: Redis) -> None:
    real = machine.store

    class Away(PolicyStore):
        async def policies(self) -> list[Policy]:
            raise RedisError("away")

    machine.store = Away(redis)
    machine.restart()
    machine.second += 2
    machine.samples.record([counters(used=60)], machine.now())
    with pytest.raises(RedisError):
        await machine.scaling.step()
    assert machine.deployer.patched == []
    machine.store = real
    machine.restart()
    await machine.look(60, 3)
    assert machine.deployer.patched == [128 * MIB]


async def test_an_idle_app_goes_down_only_if_its_use_read_again_is_still_low(machine: Machine) -> None:
    machine.deployer.stats = [counters(limit=256)]
    machine.deployer.desired = 256 * MIB
    await machine.look(20, 148)
    assert machine.deployer.patched == []
    machine.second += 2
    machine.samples.record(machine.deployer.stats, machine.now())
    machine.deployer.stats = [counters(used=70, limit=256)]  # it has grown since the sample
    await machine.scaling.step()
    assert machine.deployer.patched == []
    superseded = next(decision for decision in await machine.decisions() if decision.action is Action.DOWN)
    assert superseded.state is DecisionState.SUPERSEDED
    assert "read again, notes-r3-1 uses 70 MiB" in superseded.outcome
    await machine.look(20, 152)
    assert machine.deployer.patched == [128 * MIB]


async def test_a_disabled_policy_records_what_it_would_have_done(machine: Machine) -> None:
    await machine.store.put_policy(Policy(app="notes", environment=Environment.PRODUCTION, enabled=False))
    await machine.look(56, 4)
    assert machine.deployer.patched == []
    newest = (await machine.decisions())[0]
    assert (newest.cause, newest.action) == (Cause.DISABLED, Action.NONE)
    assert "asks for 64 → 128 MiB" in newest.reason


async def test_what_ran_may_run_still_while_the_deployer_is_silent(machine: Machine) -> None:
    await machine.look(20, 2)
    machine.deployer.stats = []
    await machine.look(20)
    assert [decision.cause for decision in await machine.decisions()] == [Cause.WITHIN_BAND], "it runs no more"
    machine.deployer.stats = [counters()]
    await machine.look(20)
    machine.samples.missed()
    await machine.scaling.step()
    assert (await machine.decisions())[0].reason == "the deployer gives no figures of any instance"


async def test_environments_that_came_and_went_take_no_memory(machine: Machine) -> None:
    kept = []
    for number in range(4):
        machine.deployer.stats = [counters(id=f"app{number}-r1-1", app=f"app{number}")]
        await machine.look(20, 2)
        machine.deployer.stats = []
        await machine.look(20)
        kept.append(kept_items(machine.scaling._environments))
    assert kept == [0] * 4
    assert len(await machine.store.environments()) == 4


@pytest.mark.parametrize(
    ("killed", "age_s", "limits"), [(True, 5, [64 * MIB]), (False, 5, []), (True, 61, [])], ids=["kill", "crash", "old"]
)
async def test_a_fresh_event_of_an_oom_kill_is_one(killed: bool, age_s: float, limits: list[int]) -> None:
    facts: dict[str, Any] = {"release": "notes-r3", "environment": "production", "memory_limit": 64 * MIB}
    facts |= {"oom_killed": killed, "max_memory": 512 * MIB}
    found = kill_of(Event(type="instance.failed", app="notes", at=at(0), id="notes-r3-1", **facts), at(age_s))
    assert [kill.limit for key, kill in [found or (KEY, None)] if kill and key == KEY] == limits


# --- REST -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def app(store: PolicyStore, redis: Redis, tmp_path: Any) -> FastAPI:
    settings = Settings(home=tmp_path, token=TOKEN)
    routers = [policies_router(store)]
    return create_app("monitor", settings, Registry(redis), description="", routers=routers)


async def test_policies_have_defaults_are_set_and_say_what_is_wrong_with_them(app: FastAPI, store: PolicyStore) -> None:
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://monitor", headers=headers) as client:
        path = "/policies/notes/production"
        assert (await client.get(path)).json()["up"] == 0.85
        put = await client.put(path, json={"up": 0.9, "enabled": False})
        assert (put.status_code, put.json()["up"], put.json()["enabled"]) == (200, 0.9, False)
        assert (await client.get(path)).json() == put.json()
        assert (await client.get("/policies/notes/canary")).json()["enabled"] is True
        flapping = await client.put(path, json={"up": 0.7, "up_soon": 0.6})
        assert flapping.status_code == 422
        assert flapping.json()["errors"][0]["field"] == "down"
        assert "lower down below 0.35" in flapping.json()["detail"]
        for number in range(1, 4):
            await store.add(entry(number))
        first = (await client.get(f"{path}/decisions?limit=2")).json()
        second = (await client.get(f"{path}/decisions?limit=2&cursor={first['next']}")).json()
        assert [item["number"] for item in [*first["items"], *second["items"]]] == [3, 2, 1]
        assert second["next"] is None
        assert {"from", "to"} <= first["items"][0].keys()
