"""When environments are due."""

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest

from services.deployer.drivers.driver import InstanceStatus
from services.deployer.reconcile.environment_reconciler import EnvironmentReconciler
from services.deployer.reconcile.reconciler import Reconciler
from services.deployer.releases.environment import EnvironmentId
from services.deployer.store import MemoryStore
from shared.models import Environment
from tests.support.deployer.fakes import VAULT, FakeDriver

pytestmark = pytest.mark.anyio
PLACES = [EnvironmentId("notes", each) for each in Environment]


class IdleRunner:
    """Has nothing to do."""

    def __init__(self, place: EnvironmentId) -> None:
        self.place = place
        self.due_at = float("inf")
        self.steps = 0

    async def step(self, statuses: Mapping[str, InstanceStatus]) -> None:
        self.steps += 1


async def test_when_the_engine_tells_of_an_end_every_environment_is_due_at_once() -> None:
    runners = {place: IdleRunner(place) for place in PLACES}
    reconciler = Reconciler(MemoryStore(VAULT), FakeDriver(), lambda place: cast(EnvironmentReconciler, runners[place]))
    for place in PLACES:
        reconciler.wake(place)
    running = asyncio.create_task(reconciler.loop.run())
    try:
        for steps in (1, 2):
            async with asyncio.timeout(1):
                while [runner.steps for runner in runners.values()] != [steps, steps]:
                    await asyncio.sleep(0.01)
            reconciler.wake_all()
    finally:
        running.cancel()


async def test_an_idle_environment_is_left_alone() -> None:
    runners = {place: IdleRunner(place) for place in PLACES}
    reconciler = Reconciler(MemoryStore(VAULT), FakeDriver(), lambda place: cast(EnvironmentReconciler, runners[place]))
    reconciler.wake(PLACES[0])
    for _ in range(3):
        await reconciler.step()
    assert [runner.steps for runner in runners.values()] == [1, 0]
