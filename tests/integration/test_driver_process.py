"""Processes: what an app is given, how it ends, and who finds it again."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.deployer.drivers.driver import InstanceSpec
from services.deployer.drivers.process.driver import LOG_BYTES, ProcessDriver
from services.deployer.drivers.process.end import stop_instances
from services.deployer.drivers.process.end_watcher import EndWatcher
from services.deployer.drivers.process.linux_process import TICKS_S, marked_with, process_stat
from services.deployer.drivers.process.port import FIRST, LAST, PortPicker
from services.deployer.drivers.process.record import InstanceFolder, ProcessRecord, instances_root
from shared.host.directory_digest import directory_digest
from shared.manifest import MIB
from shared.models import Artifact

pytestmark = pytest.mark.anyio
PLATFORM = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "SLIPWAY_TOKEN": "secret", "PYTHONPATH": "/somewhere"}
ON_TERM = """
import signal, sys, time
def bye(*args):
    time.sleep(0.2)
    print("bye")
    sys.exit(7)
signal.signal(signal.SIGTERM, bye)
print("up")
time.sleep(60)
"""
# Its child uses CPU time, and ends when it is told to.
CHILD = """
import os, signal, sys, time
if sys.argv[1] == "leaves no time to its parent":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    while time.process_time() < 0.3:
        pass
    print("used", flush=True)
    while not os.path.exists("../home/end"):
        time.sleep(0.01)
    os._exit(0)
os.close(writer)
os.read(reader, 1)
if sys.argv[1] == "is waited for":
    os.wait()
print("ended", flush=True)
time.sleep(60)
"""


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[ProcessDriver]:
    yield ProcessDriver(tmp_path, PLATFORM)
    await asyncio.to_thread(stop_instances, tmp_path, 0.5)


def a_spec(tmp_path: Path, command: str, **environment: str) -> InstanceSpec:
    folder = tmp_path / "artifact"
    folder.mkdir(exist_ok=True)
    (folder / "app.py").write_text(ON_TERM)
    artifact = Artifact(kind="directory", ref=str(folder), digest="sha256:0")
    return InstanceSpec("notes-r1-1", artifact, command, environment, 64 * MIB, 8000)


async def printed(driver: ProcessDriver, line: str) -> None:
    async with asyncio.timeout(5):
        while line not in await driver.logs("notes-r1-1", 100):
            await asyncio.sleep(0.01)


def record_of(tmp_path: Path) -> ProcessRecord:
    record = InstanceFolder(instances_root(tmp_path) / "notes-r1-1").read()
    assert record is not None
    return record


async def test_an_app_gets_its_own_environment_and_not_the_platforms(driver: ProcessDriver, tmp_path: Path) -> None:
    started = await driver.start(a_spec(tmp_path, "env; pwd; echo done", GREETING="hello", PATH="/evil"))
    await printed(driver, "done")
    lines = await driver.logs("notes-r1-1", 100)
    given = dict(line.split("=", 1) for line in lines if "=" in line)
    artifact, own = tmp_path / "artifact", instances_root(tmp_path) / "notes-r1-1"
    assert given["PATH"] == f"{artifact}/.venv/bin:{artifact}/node_modules/.bin:{os.environ['PATH']}"
    assert (given["HOME"], given["TMPDIR"]) == (str(own / "home"), str(own / "tmp"))
    assert (own / "home").is_dir() and (own / "tmp").is_dir()
    host, port = started.address.split(":")
    assert host == "127.0.0.1" and given["PORT"] == port and 20_000 <= int(port) <= 29_999
    assert (given["GREETING"], given["LANG"], given["PYTHONDONTWRITEBYTECODE"]) == ("hello", "C.UTF-8", "1")
    assert (given["NODE_ENV"], given["HOST"]) == ("production", "127.0.0.1")
    assert not {"SLIPWAY_TOKEN", "PYTHONPATH"} & given.keys()
    assert str(own / "app") in lines


async def test_processes_whose_folder_is_gone_are_found_by_their_mark_and_ended(
    driver: ProcessDriver, tmp_path: Path
) -> None:
    await driver.start(a_spec(tmp_path, "setsid sleep 60 & echo up; sleep 60"))
    await printed(driver, "up")
    marker = record_of(tmp_path).marker
    shutil.rmtree(instances_root(tmp_path) / "notes-r1-1")
    assert await driver.statuses() == {}
    [found] = await driver.running()
    assert (found.id, found.release, found.artifact) == ("notes-r1-1", "", "")
    await driver.remove(found, 5)
    assert await driver.running() == [] and marked_with(marker) == []


async def test_a_record_of_an_earlier_version_is_known_by_its_id(driver: ProcessDriver, tmp_path: Path) -> None:
    spec = a_spec(tmp_path, "sleep 60", SLIPWAY_RELEASE="notes-r1")
    await driver.start(spec)
    old = record_of(tmp_path).model_copy(update={"release": "", "artifact": ""})
    InstanceFolder(instances_root(tmp_path) / "notes-r1-1").write(old)
    assert (await driver.start(spec)).running and record_of(tmp_path).pid == old.pid


async def test_what_an_app_writes_beside_itself_leaves_the_artifact_as_it_passed(
    driver: ProcessDriver, tmp_path: Path
) -> None:
    spec = a_spec(tmp_path, "ls -a; echo changed > app.py; touch new; cat .venv/marker; echo done")
    artifact = tmp_path / "artifact"
    (artifact / ".venv").mkdir()
    (artifact / ".venv" / "marker").write_text("the same environment\n")
    before = directory_digest(artifact)
    await driver.start(spec)
    await printed(driver, "done")
    assert {"app.py", "the same environment"} <= set(await driver.logs(spec.id, 100))
    assert (instances_root(tmp_path) / spec.id / "app" / "new").exists()
    assert directory_digest(artifact) == before


@pytest.mark.parametrize("shape", ["{}", "exec {}", "true && {}", "{}; exit $?"])
async def test_sigterm_reaches_the_app_and_its_own_exit_code_is_kept(
    driver: ProcessDriver, tmp_path: Path, shape: str
) -> None:
    await driver.start(a_spec(tmp_path, shape.format(f"{sys.executable} app.py")))
    await printed(driver, "up")
    await driver.stop("notes-r1-1", 5)
    assert await driver.logs("notes-r1-1", 2) == ["up", "bye"]
    assert (await driver.statuses())["notes-r1-1"].exit_code == 7


async def test_who_ignores_sigterm_is_killed_after_the_grace(driver: ProcessDriver, tmp_path: Path) -> None:
    await driver.start(a_spec(tmp_path, "trap '' TERM; echo up; while :; do sleep 1; done"))
    await printed(driver, "up")
    await driver.stop("notes-r1-1", 0.2)
    assert not marked_with(record_of(tmp_path).marker)


async def test_nothing_of_an_instance_is_left_behind(driver: ProcessDriver, tmp_path: Path) -> None:
    """Neither what has left its process group, nor what outlived a leader that crashed."""
    await driver.start(a_spec(tmp_path, "setsid sleep 60 & sleep 60 & echo up; exit 1"))
    await printed(driver, "up")
    await driver.stop("notes-r1-1", 0.2)
    assert not marked_with(record_of(tmp_path).marker)


async def test_a_worker_that_has_overwritten_its_environment_does_not_outlive_its_app(
    driver: ProcessDriver, tmp_path: Path
) -> None:
    worker = """env -i sh -c 'trap "" TERM; echo $$ > worker; while :; do sleep 1; done'"""
    await driver.start(a_spec(tmp_path, f"{worker} & {sys.executable} app.py"))
    await printed(driver, "up")
    file = instances_root(tmp_path) / "notes-r1-1" / "app" / "worker"
    async with asyncio.timeout(5):
        while not (file.exists() and file.read_text().strip()):
            await asyncio.sleep(0.01)
    await driver.stop("notes-r1-1", 0.5)
    assert process_stat(int(file.read_text())) is None


async def test_cancelling_a_stop_leaves_the_sigterm(driver: ProcessDriver, tmp_path: Path) -> None:
    await driver.start(a_spec(tmp_path, f"{sys.executable} app.py"))
    await printed(driver, "up")
    stopping = asyncio.create_task(driver.stop("notes-r1-1", 10))
    await asyncio.sleep(0.1)
    stopping.cancel()
    await printed(driver, "bye")


@pytest.mark.parametrize("ends", ["is waited for", "is not waited for", "leaves no time to its parent"])
async def test_cpu_seconds_never_fall_when_a_child_ends(driver: ProcessDriver, tmp_path: Path, ends: str) -> None:
    spec = a_spec(tmp_path, f"{sys.executable} child.py '{ends}'")
    (tmp_path / "artifact" / "child.py").write_text(CHILD)
    await driver.start(spec)
    await printed(driver, "used")
    before = (await driver.usage([spec.id]))[spec.id].cpu_seconds
    (instances_root(tmp_path) / spec.id / "home" / "end").touch()
    async with asyncio.timeout(5):
        while "ended" not in await driver.logs(spec.id, 100):
            assert (await driver.usage([spec.id]))[spec.id].cpu_seconds >= before
    after = (await driver.usage([spec.id]))[spec.id].cpu_seconds
    assert before >= 0.3 and after >= before


async def test_another_driver_finds_the_instance_again(driver: ProcessDriver, tmp_path: Path) -> None:
    started = await driver.start(a_spec(tmp_path, "sleep 60"))
    assert await ProcessDriver(tmp_path, PLATFORM).statuses() == {"notes-r1-1": started}


STARTS_AND_ENDS = """
import asyncio, pathlib, sys
from services.deployer.drivers.driver import InstanceSpec
from services.deployer.drivers.process.driver import ProcessDriver
from shared.models import Artifact
home = pathlib.Path(sys.argv[1])
artifact = Artifact(kind="directory", ref=str(home / "artifact"), digest="sha256:0")
spec = InstanceSpec("notes-r1-1", artifact, "sleep 60", {}, 1 << 26, 8000)
asyncio.run(ProcessDriver(home, {"PATH": "/usr/bin:/bin"}).start(spec))
"""


async def test_the_end_of_a_process_that_an_earlier_deployer_started_is_heard(
    driver: ProcessDriver, tmp_path: Path
) -> None:
    a_spec(tmp_path, "")
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", STARTS_AND_ENDS, str(tmp_path)], check=True)
    ends: asyncio.Queue[str | None] = asyncio.Queue()
    with driver.watching_ends(ends.put_nowait):
        assert (await driver.statuses())["notes-r1-1"].running
        os.killpg(record_of(tmp_path).pid or 0, signal.SIGKILL)
        assert await asyncio.wait_for(ends.get(), 5) == "notes-r1-1"
    assert not (await driver.statuses())["notes-r1-1"].running


async def test_an_end_before_it_was_watched_is_reported_too(driver: ProcessDriver, tmp_path: Path) -> None:
    await driver.start(a_spec(tmp_path, "sleep 60"))
    record = record_of(tmp_path)
    await driver.stop("notes-r1-1", 5)
    watcher, ends = EndWatcher(), list[str]()
    watcher.watch(record)
    assert ends == []
    with watcher.watching(ends.append):
        watcher.watch(record)
    watcher.watch(record)
    assert ends == ["notes-r1-1"]


async def test_only_so_many_ends_are_watched_and_that_is_said_once(
    driver: ProcessDriver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = a_spec(tmp_path, "sleep 60")
    records = {}
    for instance_id in ("notes-r1-1", "notes-r1-2", "notes-r1-3"):
        await driver.start(replace(spec, id=instance_id))
        records[instance_id] = InstanceFolder(instances_root(tmp_path) / instance_id).read()
    watcher, ends = EndWatcher(most=1), asyncio.Queue[str]()
    with watcher.watching(ends.put_nowait):
        for record in records.values():
            assert record is not None
            watcher.watch(record)
            watcher.watch(record)
        assert [record.getMessage() for record in caplog.records] == [
            "the end of notes-r1-2 can only be found by its probes: "
            "1 ends are watched already; raise the limit of open files (ulimit -n)"
        ]
        await driver.stop("notes-r1-1", 5)
        assert await asyncio.wait_for(ends.get(), 5) == "notes-r1-1"


async def test_a_start_that_was_cut_off_is_completed_and_not_repeated(driver: ProcessDriver, tmp_path: Path) -> None:
    """The deployer died after it had started the process, before it wrote that down."""
    spec = a_spec(tmp_path, "sleep 60")
    started = await driver.start(spec)
    whole = record_of(tmp_path)
    folder = InstanceFolder(instances_root(tmp_path) / "notes-r1-1")
    folder.write(whole.model_copy(update={"pid": None, "start_ticks": None}))
    assert await ProcessDriver(tmp_path, PLATFORM).start(spec) == started
    assert record_of(tmp_path) == whole


async def test_a_start_that_came_to_nothing_is_made_again(driver: ProcessDriver, tmp_path: Path) -> None:
    """The deployer died before it started the process, which was announced."""
    spec = a_spec(tmp_path, "sleep 60")
    started = await driver.start(spec)
    await driver.stop(spec.id, 0)
    folder = InstanceFolder(instances_root(tmp_path) / "notes-r1-1")
    folder.write(record_of(tmp_path).model_copy(update={"pid": None, "start_ticks": None}))
    folder.exit_code.unlink(missing_ok=True)
    assert await driver.statuses() == {}
    again = await driver.start(spec)
    assert again.running and again.address != started.address


async def test_another_process_with_the_same_pid_is_not_the_instance(driver: ProcessDriver, tmp_path: Path) -> None:
    await driver.start(a_spec(tmp_path, "exit 0"))
    await asyncio.sleep(2 / TICKS_S)  # a pid never comes back within one tick of the clock that tells processes apart
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        folder = InstanceFolder(instances_root(tmp_path) / "notes-r1-1")
        folder.write(record_of(tmp_path).model_copy(update={"pid": stranger.pid}))
        assert not (await driver.statuses())["notes-r1-1"].running
        await driver.stop("notes-r1-1", 0)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_after_a_restart_of_the_machine_it_was_interrupted(driver: ProcessDriver, tmp_path: Path) -> None:
    await driver.start(a_spec(tmp_path, "exit 0"))
    folder = InstanceFolder(instances_root(tmp_path) / "notes-r1-1")
    folder.write(record_of(tmp_path).model_copy(update={"boot_id": "another"}))
    status = (await driver.statuses())["notes-r1-1"]
    assert (status.running, status.interrupted) == (False, True)


async def test_a_killed_app_ends_with_its_signal(driver: ProcessDriver, tmp_path: Path) -> None:
    await driver.start(a_spec(tmp_path, f"exec {sys.executable} app.py"))
    await printed(driver, "up")
    marker = record_of(tmp_path).marker
    [app] = [stat.pid for stat in marked_with(marker) if stat.pid != stat.session]
    os.kill(app, signal.SIGKILL)
    async with asyncio.timeout(5):
        while (status := (await driver.statuses())["notes-r1-1"]).running:
            await asyncio.sleep(0.01)
    assert (status.exit_code, status.interrupted) == (128 + signal.SIGKILL, False)


async def test_the_platforms_stop_ends_all_and_is_no_crash(driver: ProcessDriver, tmp_path: Path) -> None:
    await driver.start(a_spec(tmp_path, f"{sys.executable} app.py"))
    await printed(driver, "up")
    assert await asyncio.to_thread(stop_instances, tmp_path, 3.0) == 1
    assert await asyncio.to_thread(stop_instances, tmp_path, 3.0) == 0
    status = (await driver.statuses())["notes-r1-1"]
    assert (status.running, status.interrupted, status.exit_code) == (False, True, 7)
    assert stop_instances(tmp_path / "no such home", 0.1) == 0


async def test_two_homes_with_the_same_ids_do_not_meet(driver: ProcessDriver, tmp_path: Path) -> None:
    other_home = tmp_path / "other"
    other = ProcessDriver(other_home, PLATFORM)
    await driver.start(a_spec(tmp_path, "sleep 60"))
    await other.start(a_spec(tmp_path, "sleep 60"))
    assert await asyncio.to_thread(stop_instances, other_home, 1.0) == 1
    assert (await driver.statuses())["notes-r1-1"].running


async def test_the_artifact_is_gone(driver: ProcessDriver, tmp_path: Path) -> None:
    spec = a_spec(tmp_path, "sleep 60")
    (tmp_path / "artifact").rename(tmp_path / "moved")
    with pytest.raises(Exception, match="notes-r1-1 cannot be started"):
        await driver.start(spec)
    assert await driver.statuses() == {}


async def test_a_long_log_is_cut_and_its_end_is_kept(driver: ProcessDriver, tmp_path: Path) -> None:
    await driver.start(a_spec(tmp_path, "echo first; sleep 60"))
    await printed(driver, "first")
    folder = InstanceFolder(instances_root(tmp_path) / "notes-r1-1")
    with folder.log.open("a") as log:
        log.write("x" * LOG_BYTES + "\nlast\n")
    await driver.collect_garbage([])
    assert folder.log.stat().st_size == 0
    assert (await driver.logs("notes-r1-1", 1)) == ["last"]


def test_ports_go_round_and_skip_what_is_taken(tmp_path: Path) -> None:
    memory = tmp_path / ".port"
    memory.write_text(str(LAST - 1))
    picked = [PortPicker(memory).pick({LAST}) for _ in range(2)]
    assert picked[0] >= FIRST and picked[1] == picked[0] + 1 and LAST not in picked
    memory.write_text("not a number")
    assert FIRST <= PortPicker(memory).pick(set()) <= LAST


def test_who_has_ended_is_no_process() -> None:
    child = subprocess.Popen(["sleep", "60"])
    assert process_stat(child.pid) is not None
    child.kill()
    child.wait()
    assert process_stat(child.pid) is None
