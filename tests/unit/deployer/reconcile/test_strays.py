"""Tests which unrecorded instances with the stack's marks are ended, and which are left alone. On real Redis."""

from dataclasses import replace

import pytest

from services.deployer.drivers.driver import InstanceSpec, RunningInstance
from services.deployer.plan.apply_changes import Commit
from services.deployer.reconcile.strays import AGAIN_S, Strays, is_stray
from services.deployer.releases.instance import Instance
from services.deployer.releases.release import Release
from services.deployer.store import Store
from shared.manifest import MIB
from shared.models import InstanceState, ReleaseState
from tests.support.deployer.fakes import T0, FakeDriver, a_release, an_instance

pytestmark = pytest.mark.anyio
S = InstanceState
LIVE = a_release(2)
RECORDED = an_instance(LIVE, 1)


def found(instance: Instance = RECORDED, release: Release = LIVE, handle: str = "c") -> RunningInstance:
    return RunningInstance(handle, instance.id, release=release.id, artifact=release.artifact.digest)


@pytest.mark.parametrize("state", [S.READY, S.UNHEALTHY, S.DRAINING, S.STARTING])
def test_what_is_recorded_is_no_stray(state: InstanceState) -> None:
    assert not is_stray(found(), an_instance(LIVE, 1, state), {LIVE.id: LIVE})


def test_nor_is_what_an_earlier_version_started() -> None:
    assert not is_stray(RunningInstance("c", RECORDED.id), RECORDED, {LIVE.id: LIVE})


@pytest.mark.parametrize(
    "stray",
    [
        replace(found(), release="notes-r1"),
        replace(found(), artifact="sha256:other"),
        replace(found(), is_copy=True),
    ],
)
def test_another_release_another_artifact_or_a_copy_is_one(stray: RunningInstance) -> None:
    assert is_stray(stray, RECORDED, {LIVE.id: LIVE})


def test_what_is_recorded_as_starting_is_left_to_the_drivers_start_unless_it_is_a_copy() -> None:
    starting = an_instance(LIVE, 1, S.STARTING)
    other = replace(found(), release="notes-r1")
    assert not is_stray(other, starting, {LIVE.id: LIVE})
    assert is_stray(replace(other, is_copy=True), starting, {LIVE.id: LIVE})


async def started(driver: FakeDriver, instance: Instance, release: Release) -> None:
    variables = {"SLIPWAY_RELEASE": release.id}
    await driver.start(InstanceSpec(instance.id, release.artifact, "run", variables, 64 * MIB, 8000))


async def stored(store: Store, releases: list[Release], instances: list[Instance]) -> None:
    commit = Commit({each.id: each for each in releases}, {each.id: each for each in instances})
    await store.commit(LIVE.environment_id, commit)


async def test_a_copy_and_an_ended_instance_that_runs_again_are_ended_and_what_serves_runs_on(store: Store) -> None:
    old = a_release(1, ReleaseState.RETIRED)
    again = an_instance(old, 1, S.STOPPED, ended_at=T0)
    await stored(store, [old, LIVE], [again, RECORDED])
    driver = FakeDriver()
    await started(driver, RECORDED, LIVE)
    await started(driver, again, old)
    driver.planted.append(replace(found(handle="planted"), is_copy=True))
    strays = Strays(driver, store, 1)
    assert await strays.step() == AGAIN_S and driver.removed == []  # the first look ends nothing
    assert await strays.step() is None
    assert sorted(driver.removed) == [again.id, "planted"]
    assert [each.id for each in await driver.running()] == [RECORDED.id]
    assert await strays.step() is None and len(driver.removed) == 2


async def test_what_no_record_knows_is_ended_where_something_recorded_serves(store: Store) -> None:
    """Its release may have been deleted long ago."""
    driver, forgotten = FakeDriver(), an_instance(a_release(7), 3)
    await stored(store, [LIVE], [RECORDED])
    await started(driver, RECORDED, LIVE)
    await started(driver, forgotten, a_release(7))
    strays = Strays(driver, store, 1)
    for _ in range(2):
        await strays.step()
    assert driver.removed == [forgotten.id]


@pytest.mark.parametrize("state", [None, S.STARTING, S.UNHEALTHY])
async def test_a_store_that_lost_its_content_ends_nothing_until_something_recorded_serves(
    store: Store, state: InstanceState | None, caplog: pytest.LogCaptureFixture
) -> None:
    driver, forgotten = FakeDriver(), an_instance(a_release(7), 3)
    if state is not None:
        await stored(store, [LIVE], [an_instance(LIVE, 1, state)])
    await started(driver, forgotten, a_release(7))
    strays = Strays(driver, store, 1)
    for _ in range(4):
        await strays.step()
    assert driver.removed == []
    assert [record.getMessage() for record in caplog.records].count(
        "notes-r7-3 (notes-r7-3) is not recorded, and no recorded instance serves its app: it runs on"
    ) == 1
    await stored(store, [LIVE], [RECORDED])
    await strays.step()
    assert driver.removed == [forgotten.id]


async def test_one_that_is_recorded_between_two_looks_is_left(store: Store) -> None:
    driver = FakeDriver()
    await stored(store, [LIVE], [an_instance(LIVE, 2)])
    await started(driver, RECORDED, LIVE)
    strays = Strays(driver, store, 1)
    await strays.step()
    await stored(store, [LIVE], [RECORDED])
    await strays.step()
    assert driver.removed == []
