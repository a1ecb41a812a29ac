"""Instances as processes of this machine. They share the platform's user: no wall between an app and the platform."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from services.deployer.driver import DriverError, InstanceSpec, InstanceStatus, UnknownInstance, Unsupported, Usage
from services.deployer.linux_process import TICKS_S, boot_id, marked_with, process_stat, processes
from services.deployer.process_port import PortPicker
from services.deployer.process_record import InstanceFolder, ProcessRecord, folders
from shared.clock import now

# The outer shell notes how the command ended. Both catch SIGTERM, which goes to the whole group, so that they outlive
# the app; a caught signal, unlike an ignored one, is back at its default in the programs that they start.
SHIM = """trap : TERM INT HUP
sh -c "trap : TERM INT HUP
$1"
echo $? > "$2"
"""
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
LOG_BYTES = 8 * 2**20
LOOK_S = 0.05


def instances_root(home: Path) -> Path:
    return home / "instances"


class ProcessDriver:
    """`Driver` for processes. `platform_environment`: of it only what is harmless is passed on. The memory limit is
    told, not enforced.
    """

    def __init__(self, home: Path, platform_environment: Mapping[str, str]) -> None:
        self._root = instances_root(home)
        self._passed_on = {name: platform_environment[name] for name in PASSED_ON if name in platform_environment}
        self._ports = PortPicker(self._root / ".port")
        self._starting = threading.Lock()  # also: nobody reads a record while its process is being started

    async def start(self, spec: InstanceSpec) -> InstanceStatus:
        starting = asyncio.ensure_future(asyncio.to_thread(self._start, spec))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait([starting])  # a thread cannot be cut off, so nobody shall think that it was
            raise

    async def stop(self, instance_id: str, grace_s: float) -> None:
        record = await asyncio.to_thread(self._record, instance_id)
        deadline = time.monotonic() + grace_s
        await asyncio.to_thread(_terminate, record)
        while await asyncio.to_thread(_remains, record):
            if time.monotonic() >= deadline:
                await asyncio.to_thread(_kill, record)
            await asyncio.sleep(LOOK_S)

    async def statuses(self) -> dict[str, InstanceStatus]:
        return await asyncio.to_thread(self._statuses)

    async def logs(self, instance_id: str, lines: int) -> list[str]:
        return await asyncio.to_thread(self._logs, instance_id, lines)

    async def usage(self, instance_ids: Iterable[str]) -> dict[str, Usage]:
        return await asyncio.to_thread(self._usage, set(instance_ids))

    async def set_memory(self, instance_id: str, memory: int) -> None:
        raise Unsupported("a process gets another memory limit only by being started anew")

    async def forget(self, instance_id: str) -> None:
        await asyncio.to_thread(self._forget, instance_id)

    async def tidy(self) -> None:
        await asyncio.to_thread(self._rotate_logs)

    def _folder(self, instance_id: str) -> InstanceFolder:
        return InstanceFolder(self._root / instance_id)

    def _record(self, instance_id: str) -> ProcessRecord:
        with self._starting:
            record = self._folder(instance_id).read()
        if record is None:
            raise UnknownInstance(f"no process was started for {instance_id}")
        return record

    def _start(self, spec: InstanceSpec) -> InstanceStatus:
        if spec.artifact.kind != "directory":
            raise DriverError(f"{spec.id}: processes run from a directory, not from an {spec.artifact.kind}")
        folder = self._folder(spec.id)
        with self._starting:
            if (status := folder.status()) is not None:
                return status
            used = {record.port for other in folders(self._root) if (record := other.read())}
            try:
                folder.make(Path(spec.artifact.ref))
                record = ProcessRecord(
                    id=spec.id,
                    marker=f"SLIPWAY_INSTANCE_FOLDER={folder.path}",
                    port=self._ports.pick(used),
                    memory=spec.memory,
                    started_at=now(),
                    boot_id=boot_id(),
                )
                folder.write(record)
                record = self._spawn(spec, folder, record)
            except OSError as error:
                raise DriverError(f"{spec.id} cannot be started: {error}") from error
            folder.write(record)
            started = folder.status()
        if started is None:
            raise DriverError(f"{spec.id}: its record vanished")
        return started

    def _spawn(self, spec: InstanceSpec, folder: InstanceFolder, record: ProcessRecord) -> ProcessRecord:
        artifact = spec.artifact.ref
        path = [f"{artifact}/.venv/bin", f"{artifact}/node_modules/.bin", self._passed_on.get("PATH", os.defpath)]
        marker_name, _, marker_value = record.marker.partition("=")
        environment = {
            **self._passed_on,
            **spec.environment,
            "PATH": ":".join(path),
            "PORT": str(record.port),
            "HOME": str(folder.home),
            "TMPDIR": str(folder.tmp),
            "SLIPWAY_INSTANCE": spec.id,
            marker_name: marker_value,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        }
        with folder.log.open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", SHIM, "slipway-instance", spec.command, str(folder.exit_code)],
                cwd=folder.app,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process.returncode = 0  # it may outlive us, so Popen shall not warn; process_stat collects the zombie
        stat = process_stat(process.pid)
        # A process that has ended already has no start time, and so counts as ended.
        return record.model_copy(update={"pid": process.pid, "start_ticks": stat.start_ticks if stat else None})

    def _statuses(self) -> dict[str, InstanceStatus]:
        with self._starting:
            statuses = [folder.status() for folder in folders(self._root)]
        return {status.id: status for status in statuses if status is not None}

    def _logs(self, instance_id: str, lines: int) -> list[str]:
        self._record(instance_id)
        folder = self._folder(instance_id)
        tail: deque[str] = deque(maxlen=lines)
        for path in (folder.older_log, folder.log):
            with contextlib.suppress(FileNotFoundError), path.open(errors="replace") as file:
                tail.extend(line.rstrip("\n") for line in file)
        return list(tail)

    def _usage(self, instance_ids: set[str]) -> dict[str, Usage]:
        with self._starting:
            records = [
                record for each in folders(self._root) if each.path.name in instance_ids and (record := each.read())
            ]
        by_session = {record.pid: record for record in records if record.runs()}
        resident = dict.fromkeys(by_session, 0)
        cpu_ticks = dict.fromkeys(by_session, 0)
        for stat in processes():
            if stat.session in by_session:
                resident[stat.session] += stat.resident
                cpu_ticks[stat.session] += stat.cpu_ticks
        return {
            record.id: Usage(record.started_at, record.memory, resident[pid], cpu_ticks[pid] / TICKS_S, 0)
            for pid, record in by_session.items()
        }

    def _forget(self, instance_id: str) -> None:
        with self._starting:
            folder = self._folder(instance_id)
            record = folder.read()
            if record is not None and _remains(record):
                raise DriverError(f"{instance_id} runs; stop it first")
            shutil.rmtree(folder.path, ignore_errors=True)

    def _rotate_logs(self) -> None:
        """Copies and cuts, since the process holds the file open; at full speed a few lines may be lost."""
        for folder in folders(self._root):
            with contextlib.suppress(FileNotFoundError):
                if folder.log.stat().st_size > LOG_BYTES:
                    shutil.copyfile(folder.log, folder.older_log)
                    os.truncate(folder.log, 0)


def _remains(record: ProcessRecord) -> bool:
    """Whether anything of the instance runs, its leader or what that left behind."""
    return record.runs() or bool(marked_with(record.marker))


def _terminate(record: ProcessRecord) -> None:
    _signal(record, signal.SIGTERM)


def _kill(record: ProcessRecord) -> None:
    _signal(record, signal.SIGKILL)


def _signal(record: ProcessRecord, number: signal.Signals) -> None:
    """To the whole group, and to what has left it. The group's id is safe to use while its leader runs."""
    leader = record.pid if record.runs() else None
    with contextlib.suppress(ProcessLookupError):
        if leader is not None:
            os.killpg(leader, number)
    for stat in marked_with(record.marker):
        if stat.session != leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stat.pid, number)


def stop_instances(home: Path, timeout_s: float) -> int:
    """Ends every instance of the home, for the launcher when the whole platform stops (and the deployer has): SIGTERM
    to all, SIGKILL to what is left after `timeout_s` seconds. Returns how many ran. Their records say that the platform
    stopped them, so that the next deployer starts them again at once and counts no crash.
    """
    running = []
    for folder in folders(instances_root(home)):
        record = folder.read()
        if record is not None and record.runs():
            folder.write(record.model_copy(update={"stopped": True}))
            running.append(record)
    for act, wait_s in ((_terminate, timeout_s), (_kill, 5.0)):
        _until_gone(running, act, wait_s)
    return len(running)


def _until_gone(records: list[ProcessRecord], act: Callable[[ProcessRecord], None], wait_s: float) -> None:
    left = [record for record in records if _remains(record)]
    for record in left:
        act(record)
    deadline = time.monotonic() + wait_s
    while left and time.monotonic() < deadline:
        time.sleep(LOOK_S)
        left = [record for record in left if _remains(record)]
