"""A real canary and a real production that stand still, as the deployer probes them and the monitor judges them."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from services.deployer.plan.observe import MISSES_ALLOWED
from services.deployer.reconcile.probe import ProbeTarget
from services.deployer.reconcile.prober import Prober
from services.deployer.releases.environment import EnvironmentId
from services.monitor.inventory.canary_health import CanaryHealth
from shared.manifest import health_check
from shared.models import TRACK_OF, Environment, InstanceRecord, InstanceState
from tests.support.ports import free_port, wait_for_port

pytestmark = pytest.mark.anyio
NAMES = {Environment.PRODUCTION: "notes-r8-1", Environment.CANARY: "notes-r9-1"}
READ_EVERY_S = 0.1
LONG = timedelta(minutes=1)


@contextlib.contextmanager
def app_process() -> Iterator[tuple[str, int]]:
    """`host:port` and process id of an app that can be stopped by a signal."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port)
            yield f"127.0.0.1:{port}", process.pid
        finally:
            process.kill()


class Watched:
    """The deployer's prober of both instances, and what the monitor makes of it."""

    def __init__(self, addresses: dict[Environment, str]) -> None:
        self.prober = Prober(lambda environment_id: None)
        self.blamed: list[str] = []
        self.most_misses = dict.fromkeys(NAMES, 0)
        self._health = CanaryHealth()
        self._records: dict[Environment, InstanceRecord] = {}
        for environment, address in addresses.items():
            target = ProbeTarget(address, health_check("/"), "notes.localhost", is_new=False)
            self.prober.follow(EnvironmentId("notes", environment), {NAMES[environment]: target})

    def misses(self) -> list[int]:
        """Returns how many probes in a row each instance has missed, of those that were probed."""
        return [health.misses for health in self.prober.health().values()]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Reads the registry again and again, as the monitor does."""
        async with asyncio.timeout(30):
            while not condition():
                self._read(datetime.now(UTC))
                await asyncio.sleep(READ_EVERY_S)

    def _read(self, now: datetime) -> None:
        probes = self.prober.records(NAMES.values(), now)
        for environment, name in NAMES.items():
            health = self.prober.health().get(name)
            misses = health.misses if health else 0
            self.most_misses[environment] = max(self.most_misses[environment], misses)
            before = self._records.get(environment)
            was_ill = before is not None and before.state is InstanceState.UNHEALTHY
            is_ill = misses > MISSES_ALLOWED or (was_ill and misses > 0)
            if before is None or was_ill is not is_ill:
                self._records[environment] = record(environment, is_ill, now if before else now - LONG)
            if not self.most_misses[environment] and name in probes:
                probes[name].well_since = now - LONG
        tracks = {TRACK_OF[environment]: [own] for environment, own in self._records.items()}
        self._health.record({"notes": tracks}, probes, now, ())
        reading = self._health.reading("notes", "notes-r9")
        if reading and reading.value:
            self.blamed.append(reading.description)


def record(environment: Environment, is_ill: bool, at: datetime) -> InstanceRecord:
    name = NAMES[environment]
    return InstanceRecord(
        id=name,
        release=name.rpartition("-")[0],
        commit="0" * 40,
        address="127.0.0.1:1",
        state=InstanceState.UNHEALTHY if is_ill else InstanceState.READY,
        memory_limit=1,
        updated_at=at,
    )


@pytest.mark.slow
@pytest.mark.parametrize("stalled", [(Environment.CANARY, Environment.PRODUCTION), (Environment.CANARY,)])
async def test_a_canary_that_stands_still_is_blamed_only_if_it_does_so_alone(stalled: tuple[Environment, ...]) -> None:
    """Is case run/37."""
    with app_process() as (stable, stable_pid), app_process() as (canary, canary_pid):
        pids = {Environment.PRODUCTION: stable_pid, Environment.CANARY: canary_pid}
        watched = Watched({Environment.PRODUCTION: stable, Environment.CANARY: canary})
        await watched.until(lambda: watched.misses() == [0, 0])
        for each in stalled:
            os.kill(pids[each], signal.SIGSTOP)
        await watched.until(lambda: watched.most_misses[Environment.CANARY] > MISSES_ALLOWED)
        for each in stalled:
            os.kill(pids[each], signal.SIGCONT)
        await watched.until(lambda: watched.misses() == [0, 0])
        if Environment.PRODUCTION in stalled:
            assert watched.most_misses[Environment.PRODUCTION] >= MISSES_ALLOWED
            assert watched.blamed == []
        else:
            assert watched.blamed[0] == "instance notes-r9-1 is unhealthy"
        await watched.prober.close()
