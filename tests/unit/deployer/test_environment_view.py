"""What clients see of instances, put together from what is stored and what the engine measures."""

import pytest

from services.deployer.apply import Commit
from services.deployer.driver import InstanceSpec
from services.deployer.environment_view import environment_view, instance_stats
from services.deployer.store import MemoryStore
from shared.manifest import MIB
from shared.models import InstanceState
from tests.unit.deployer.fakes import FakeDriver, a_release, an_instance

pytestmark = pytest.mark.anyio
RELEASE = a_release(1)


async def test_counters_count_on_and_pressure_is_passed_on() -> None:
    store, driver = MemoryStore(), FakeDriver()
    runs = an_instance(RELEASE, 2, oom_kills=3, restarts=4)
    failed = an_instance(RELEASE, 1, InstanceState.FAILED)
    await store.commit(RELEASE.place, Commit({RELEASE.id: RELEASE}, {each.id: each for each in (failed, runs)}))
    await driver.start(InstanceSpec(runs.id, RELEASE.artifact, "run", {}, 64 * MIB, 8000))
    [item] = await instance_stats(store, driver)
    assert (item.id, item.oom_kills, item.restarts, item.memory_pressure) == (runs.id, 3, 4, 1.5)
    assert (item.memory_limit, item.min_memory, item.max_memory) == (64 * MIB, 64 * MIB, 512 * MIB)


async def test_an_instance_says_why_its_limit_is_not_what_is_wanted() -> None:
    store = MemoryStore()
    instance = an_instance(RELEASE, 1, memory_refusal="it uses more")
    await store.commit(RELEASE.place, Commit({RELEASE.id: RELEASE}, {instance.id: instance}))
    [shown] = (await environment_view(store, RELEASE.place)).instances
    assert (shown.id, shown.reason, shown.memory_refusal) == (instance.id, "a reason", "it uses more")
