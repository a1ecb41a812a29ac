"""A full disk is told at the push, leaves nothing half-done, and all goes on by itself once there is room."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.build.gates.report_archive import ReportFiles
from services.build.gates.report_record import BuildReport, TestRun
from services.build.logs.build_log import MISSING, BuildLogs
from services.build.pipeline.platform_fault import full_disk
from services.deployer.drivers.driver import InstanceSpec, MachineShort
from services.deployer.drivers.process.driver import LOG_BYTES, ProcessDriver
from services.deployer.drivers.process.end import stop_instances
from services.proxy.control.spare_space import SPARE_BYTES
from services.proxy.envoy.clusters import eds_file
from services.proxy.envoy.files import envoy_folder
from shared.host.directory_digest import directory_digest
from shared.host.disk_reserve import DiskReserve
from shared.host.machine import DiskLimits
from shared.manifest import MIB
from shared.models import Artifact, Track
from shared.proxy_models import RolloutState
from tests.support.build.builds import build as a_build
from tests.support.build.platform import processes
from tests.support.build.service import BuildService, Developer, eventually
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import endpoint, route
from tests.support.small_disk import SmallDisk, small_disk

__all__ = ["small_disk"]

pytestmark = pytest.mark.anyio

RESERVE_MB = 8
MANIFEST = "app: notes\nsteps:\n- {name: test, commands: [sh ci.sh]}\nrun: {command: python app.py}\n"
FILLS = "cat /dev/zero > filling || { ls; exit 1; }\n"


def test_a_push_is_refused_before_the_disk_is_full_and_a_build_that_fills_it_ends_in_error(
    small_disk: SmallDisk, tmp_path: Path, redis_server: str
) -> None:
    home = small_disk.path / "home"
    with BuildService(home, redis_server, SLIPWAY_DISK_FULL_MB=str(RESERVE_MB)).running() as service:
        developer = Developer(tmp_path / "work", service, "notes")
        developer.commit({"slipway.yml": MANIFEST, "ci.sh": "true\n"})
        small_disk.fill(RESERVE_MB * MIB // 2)
        shown = developer.push()
        assert f"the push is refused: the disk of {home} has 4 MiB of 48 MiB left, which is full" in shown, shown
        assert "or enlarge the disk; then push again" in shown
        assert "507" in shown
        assert service.http.get("/apps/notes").status_code == 404, "nothing is left of it"
        small_disk.empty()
        assert "live in production" in developer.push()

        developer.commit({"data": os.urandom(2 * MIB)})
        small_disk.fill(RESERVE_MB * MIB + MIB)
        shown = developer.push()
        assert "the push is refused: it needs more room than the disk has until it counts as full" in shown, shown
        assert "[remote rejected] HEAD -> release (the machine has no room)" in shown
        assert [each["id"] for each in service.http.get("/apps/notes/builds").json()["items"]] == ["notes-1"]
        assert list((home / "spool").iterdir()) == []
        small_disk.empty()

        developer.commit({"ci.sh": FILLS})
        shown = developer.push()
        build = service.build("notes-2")
        assert build["state"] == "error", shown
        assert build["reason"].startswith("the disk ")
        assert "then build it again (POST /builds/notes-2/retry)" in build["reason"]
        folders = sorted(path.name for path in (home / "releases" / "notes").iterdir())
        assert folders == ["notes-1"], "nothing half-written is left"

        small_disk.fill(RESERVE_MB * MIB // 2)
        queued = service.http.post("/builds/notes-1/retry").json()["id"]
        eventually(lambda: "s  waits: the disk of" in service.log(queued), 10)
        assert service.build(queued)["state"] == "queued"
        small_disk.empty()
        assert service.ended(queued)["state"] == "success"


async def test_the_machine_not_the_commit_is_to_blame_for_a_step_that_found_no_room(
    small_disk: SmallDisk, redis: Redis
) -> None:
    platform = await processes(small_disk.path, redis, reserve_bytes=2 * MIB)
    small_disk.fill(8 * MIB)
    script = "cat /dev/zero > filling || truncate -s -1M filling; exit 1\n"
    build = await platform.build({"slipway.yml": MANIFEST, "ci.sh": script})
    assert build.state == "error", platform.log(build)
    assert "then build it again (POST /builds/notes-1/retry): " in build.reason
    assert build.reason.endswith("test exited with 1")
    small_disk.empty()
    quoted = await platform.build({"ci.sh": "echo No space left on device; exit 1\n"})
    assert quoted.state == "failure", "there is room"


async def test_lines_that_found_no_room_are_missed_and_a_report_is_whole_or_not_there(small_disk: SmallDisk) -> None:
    logs, reports = BuildLogs(small_disk.path / "logs"), ReportFiles(small_disk.path / "reports")
    with logs.open("notes-1") as log:
        log.say("before")
        small_disk.fill()
        for _ in range(20):
            log.say("x" * 1000)
        logs.say("notes-2", "queued")
        tests = [TestRun(step="test", id=os.urandom(3000).hex(), outcome="passed")]
        with pytest.raises(OSError, match="No space left"):
            reports.write("notes-1", BuildReport(tests=tests))
        assert list(reports.folder.glob(".*")) == []
        small_disk.empty()
        reserve = DiskReserve(small_disk.path, DiskLimits(0, 0, 0))
        assert full_disk(a_build(1), log, reserve).startswith("the disk was full while it ran")
        log.say("after")
    text = logs.read("notes-1", 0, -1).decode()
    assert text.startswith("before\n")
    assert text.endswith(f"{MISSING}after\n")
    assert text.count(MISSING) == 1


@pytest.fixture
async def driver(small_disk: SmallDisk) -> AsyncIterator[ProcessDriver]:
    yield ProcessDriver(small_disk.path, {"PATH": os.environ["PATH"]})
    stop_instances(small_disk.path, 0.5)


async def test_an_instance_waits_for_room_and_leaves_no_half_copy(
    driver: ProcessDriver, small_disk: SmallDisk, tmp_path: Path
) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "data").write_bytes(bytes(4 * MIB))
    (folder / "app.py").write_text("import time; print('x' * 100, flush=True); time.sleep(60)")
    artifact = Artifact(kind="directory", ref=str(folder), digest=directory_digest(folder))
    spec = InstanceSpec("notes-r1-1", artifact, f"{sys.executable} app.py", {}, 64 * MIB, 8000)
    small_disk.fill(MIB)
    with pytest.raises(MachineShort, match=r"notes-r1-1 cannot be started: the disk is full .*: delete what"):
        await driver.start(spec)
    instance = small_disk.path / "instances" / "notes-r1-1"
    assert not (instance / "app").exists()
    assert await driver.statuses() == {}
    small_disk.empty()
    assert (await driver.start(spec)).running

    with (instance / "log").open("ab") as log:
        log.write(bytes(LOG_BYTES + 1))
    small_disk.fill()
    await driver.collect_garbage([])
    assert (instance / "log").stat().st_size == 0, "a log that fills the disk is cut, although it cannot be copied"
    assert await driver.statuses() != {}


async def test_a_canary_is_aborted_on_a_full_disk_and_what_found_no_room_is_written_later(
    small_disk: SmallDisk, redis: Redis
) -> None:
    canary = endpoint("notes-r2-1", port=20001)
    plane = Plane(small_disk.path, redis, route(endpoint("notes-r1-1"), canary=(canary,), rollout="notes-r2"))
    control, folder = plane.control, envoy_folder(plane.settings)
    control.write_again()
    assert (folder / ".spare").stat().st_size == SPARE_BYTES
    small_disk.fill()
    await plane.rollouts.abort("notes", "notes-r2", "errors", {})
    rollout = control.route("notes").rollout
    assert rollout is not None and rollout.state is RolloutState.ABORTED
    assert '"DRAINING"' in (folder / eds_file("notes", Track.CANARY)).read_text()
    plane.start()
    assert "notes-r2" in plane.control.aborted, "also the next process knows it"

    (folder / ".spare").unlink()  # taken again, as there was room
    small_disk.fill()
    control = plane.control
    more = {**control.route("notes").endpoints[Track.STABLE], "notes-r1-2": endpoint("notes-r1-2", port=20009)}
    changed = control.route("notes").model_copy(
        update={"endpoints": {**control.route("notes").endpoints, Track.STABLE: more}, "hosts": ["a.example"] * 4000}
    )
    with pytest.raises(OSError, match="No space left"):
        control.put(changed)
    with pytest.raises(OSError, match="No space left"):
        control.put(control.route("notes"))  # although memory has it already
    with pytest.raises(OSError, match="No space left"):
        await control.confirm("notes", 1)
    assert [path.name for path in folder.rglob(".*") if path.name != ".spare"] == [], "no half file is left"
    small_disk.empty()
    await control.confirm("notes", 1)
    assert "20009" in (folder / eds_file("notes", Track.STABLE)).read_text()
    assert (folder / "routes" / "notes.json").read_text().count("a.example") == 4000
