"""Processes at their memory limits, for real: held by control groups, and by the guard."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.deployer.drivers.cgroup_files import VersionOneFiles, group_files
from services.deployer.drivers.driver import DriverError
from services.deployer.drivers.process.driver import ProcessDriver
from services.deployer.drivers.process.end import stop_instances
from services.deployer.drivers.process.linux_process import process_stat, session_pids
from services.deployer.drivers.process.memory_cgroup import parent_for
from services.deployer.drivers.process.record import InstanceFolder, instances_root
from shared.manifest import MIB
from tests.support.deployer.eater import (
    FORKED,
    ID,
    PARENT,
    a_spec,
    eat,
    group_of,
    overeat,
    printed,
    record_of,
    used,
)
from tests.support.deployer.machine import leftovers, writable_parent

pytestmark = pytest.mark.anyio
ENVIRONMENT = {"PATH": os.environ["PATH"]}
MakeDriver = Callable[[], ProcessDriver]


@pytest.fixture(params=["cgroup", "guard"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeDriver]:
    """Driver objects on the same home, as lives of the deployer."""
    groups = writable_parent(tmp_path) if request.param == "cgroup" else None
    yield lambda: ProcessDriver(tmp_path, ENVIRONMENT, groups)
    await asyncio.to_thread(stop_instances, tmp_path, 0.5)
    assert list(leftovers(tmp_path)) == []


@pytest.fixture
async def grouped(tmp_path: Path) -> AsyncIterator[ProcessDriver]:
    yield ProcessDriver(tmp_path, ENVIRONMENT, writable_parent(tmp_path))
    await asyncio.to_thread(stop_instances, tmp_path, 0.5)
    assert list(leftovers(tmp_path)) == []


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[ProcessDriver]:
    yield ProcessDriver(tmp_path, ENVIRONMENT)
    await asyncio.to_thread(stop_instances, tmp_path, 0.5)


async def test_what_takes_more_than_its_limit_is_killed_and_that_stays_known(make: MakeDriver, tmp_path: Path) -> None:
    driver = make()
    await driver.start(a_spec(tmp_path))
    await eat(tmp_path, 10)
    assert 10 * MIB < (await used(driver)).working_set < 48 * MIB
    status = await overeat(driver, tmp_path, 150)
    assert (status.oom_killed, status.oom_kills, status.exit_code, status.interrupted) == (True, 1, 137, False)
    await driver.stop(ID, 1)
    assert await make().statuses() == {ID: status}


async def test_a_raised_limit_counts_at_once_and_after_a_restart_of_the_deployer(
    make: MakeDriver, tmp_path: Path
) -> None:
    driver = make()
    await driver.start(a_spec(tmp_path))
    await driver.set_memory(ID, 128 * MIB)
    await eat(tmp_path, 70)
    later = make()
    for each in (driver, driver, driver, later, later, later):
        await each.enforce()
    assert (await later.statuses())[ID].running
    assert (await used(later)).memory_limit == 128 * MIB
    assert (await overeat(later, tmp_path, 200)).oom_killed


async def test_a_limit_may_always_be_raised_however_full_it_is(make: MakeDriver, tmp_path: Path) -> None:
    driver = make()
    await driver.start(a_spec(tmp_path, memory=96 * MIB))
    await eat(tmp_path, 80)
    assert (await used(driver)).working_set > 0.8 * 97 * MIB
    await driver.set_memory(ID, 97 * MIB)
    assert (await used(driver)).memory_limit == 97 * MIB


async def test_a_limit_near_to_what_is_used_is_refused_and_nothing_is_killed(make: MakeDriver, tmp_path: Path) -> None:
    driver = make()
    await driver.start(a_spec(tmp_path, memory=128 * MIB))
    await eat(tmp_path, 60)
    for memory in (32 * MIB, 64 * MIB, 72 * MIB):
        with pytest.raises(
            DriverError, match=r"uses \d+ MiB, more than 80 % of \d+ MiB; it keeps its limit of 128 MiB"
        ):
            await driver.set_memory(ID, memory)
    assert (await used(driver)).memory_limit == 128 * MIB
    await driver.set_memory(ID, 112 * MIB)
    await eat(tmp_path, 0)
    await driver.set_memory(ID, 32 * MIB)
    await driver.enforce()
    assert (await used(driver)).memory_limit == 32 * MIB
    assert (await overeat(driver, tmp_path, 60)).oom_killed


# --- control groups -------------------------------------------------------------------------------------------------


async def test_everything_of_an_instance_is_in_its_group_which_goes_with_it(
    grouped: ProcessDriver, tmp_path: Path
) -> None:
    await grouped.start(a_spec(tmp_path))
    await eat(tmp_path, 1)
    group = group_of(tmp_path)
    session = record_of(tmp_path).pid or 0
    members = set(session_pids([session])[session])
    assert len(members) > 1 and members == {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    await grouped.stop(ID, 1)
    assert not group.exists()
    await grouped.forget(ID)


async def test_a_daemon_without_mark_or_session_ends_with_its_group(grouped: ProcessDriver, tmp_path: Path) -> None:
    daemon = "env -i setsid sh -c 'trap : TERM; echo $$ > daemon; while :; do sleep 1; done' & exec sleep 60"
    await grouped.start(replace(a_spec(tmp_path), command=daemon))
    file = instances_root(tmp_path) / ID / "app" / "daemon"
    async with asyncio.timeout(5):
        while not (file.exists() and file.read_text().strip()):
            await asyncio.sleep(0.01)
    await grouped.stop(ID, 0.5)
    assert process_stat(int(file.read_text())) is None


async def test_a_child_that_is_killed_is_counted_and_the_instance_lives_on(
    grouped: ProcessDriver, tmp_path: Path
) -> None:
    await grouped.start(a_spec(tmp_path, PARENT))
    await printed(grouped, "child -9")
    assert (await used(grouped)).oom_kills == 1
    assert (await grouped.statuses())[ID].running
    await grouped.stop(ID, 1)
    ended = (await grouped.statuses())[ID]
    assert (ended.oom_killed, ended.oom_kills) == (False, 1)


async def test_cache_that_the_kernel_would_drop_is_not_part_of_the_working_set(
    grouped: ProcessDriver, tmp_path: Path
) -> None:
    program = "import time; open('large', 'wb').write(b'x' * (30 << 20)); print('written', flush=True); time.sleep(60)"
    await grouped.start(a_spec(tmp_path, program, 128 * MIB))
    await printed(grouped, "written")
    group = group_of(tmp_path)
    if not (group / VersionOneFiles.LIMIT).exists():
        pytest.skip("no control groups of version 1 here")
    usage = int((group / "memory.usage_in_bytes").read_text())
    assert usage > 30 * MIB and (await used(grouped)).working_set < usage - 25 * MIB


async def test_a_limit_that_the_kernel_refuses_leaves_both_files_as_they_were(
    grouped: ProcessDriver, tmp_path: Path
) -> None:
    await grouped.start(a_spec(tmp_path, memory=128 * MIB))
    await eat(tmp_path, 60)
    group = group_of(tmp_path)
    names = [each for each in (VersionOneFiles.LIMIT, VersionOneFiles.LIMIT_WITH_SWAP) if (group / each).exists()]
    if not names:
        pytest.skip("no control groups of version 1 here")
    with pytest.raises(OSError, match="busy"):
        group_files(group).set_limit(32 * MIB)
    assert {int((group / name).read_text()) for name in names} == {128 * MIB}


async def test_groups_that_nobody_knows_any_more_are_swept_away(grouped: ProcessDriver, tmp_path: Path) -> None:
    await grouped.start(a_spec(tmp_path))
    group = group_of(tmp_path)
    forgotten = group.parent / "notes-r0-1"
    forgotten.mkdir()
    await grouped.collect_garbage([])
    assert group.exists() and not forgotten.exists()


async def test_a_group_that_cannot_be_entered_lets_nothing_run(tmp_path: Path) -> None:
    entrance = tmp_path / "parent" / ID / "cgroup.procs"
    driver = ProcessDriver(tmp_path, ENVIRONMENT, tmp_path / "parent")
    entrance.mkdir(parents=True)  # a folder, which nobody can write a pid to
    (entrance.parent / "memory.max").touch()
    await driver.start(a_spec(tmp_path, "print('ran')"))
    await printed(driver, "its control group cannot be entered")
    async with asyncio.timeout(5):
        while (status := (await driver.statuses())[ID]).running:
            await asyncio.sleep(0.02)
    assert status.exit_code == 126 and "ran" not in await driver.logs(ID, 100)


async def test_what_has_a_group_is_left_to_the_kernel(grouped: ProcessDriver, tmp_path: Path) -> None:
    await grouped.start(a_spec(tmp_path))
    InstanceFolder(instances_root(tmp_path) / ID).write(record_of(tmp_path).model_copy(update={"memory": 1}))
    for _ in range(3):
        await grouped.enforce()
    assert (await grouped.statuses())[ID].running


# --- the guard ------------------------------------------------------------------------------------------------------


async def test_the_guard_kills_only_at_the_second_look(guarded: ProcessDriver, tmp_path: Path) -> None:
    await guarded.start(a_spec(tmp_path))
    await eat(tmp_path, 80)
    await guarded.enforce()
    assert (await guarded.statuses())[ID].running
    await eat(tmp_path, 1)
    await guarded.enforce()
    await eat(tmp_path, 80)
    await guarded.enforce()
    assert (await guarded.statuses())[ID].running
    assert (await overeat(guarded, tmp_path, 80)).oom_kills == 1


async def test_what_processes_share_counts_once(guarded: ProcessDriver, tmp_path: Path) -> None:
    await guarded.start(a_spec(tmp_path, FORKED, 64 * MIB))
    await printed(guarded, "forked")
    for _ in range(3):
        await guarded.enforce()
    assert (await guarded.statuses())[ID].running
    assert (await used(guarded)).working_set < 64 * MIB


async def test_an_instance_stays_with_what_it_began_with(guarded: ProcessDriver, tmp_path: Path) -> None:
    grouped = ProcessDriver(tmp_path, ENVIRONMENT, writable_parent(tmp_path))
    await guarded.start(a_spec(tmp_path))
    await grouped.set_memory(ID, 64 * MIB)
    assert (await overeat(grouped, tmp_path, 100)).oom_killed
    await grouped.stop(ID, 1)
    await grouped.forget(ID)

    await grouped.start(a_spec(tmp_path))
    await guarded.set_memory(ID, 96 * MIB)
    await eat(tmp_path, 60)
    assert (await overeat(guarded, tmp_path, 150)).oom_kills == 1


# --- where ----------------------------------------------------------------------------------------------------------


def test_two_homes_have_two_groups_and_trying_leaves_nothing_behind(tmp_path: Path) -> None:
    one, other = writable_parent(tmp_path / "one"), writable_parent(tmp_path / "other")
    assert one != other and one == parent_for("auto", tmp_path / "one")
    assert not one.exists() and not other.exists()
    assert parent_for("guard", tmp_path) is None
