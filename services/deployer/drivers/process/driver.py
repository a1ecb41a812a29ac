"""Runs instances as processes, as the same user as the platform; apps are not isolated from the platform."""

import asyncio
import contextlib
import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from services.deployer.drivers.driver import (
    DriverError,
    InstanceSpec,
    InstanceStatus,
    MachineShort,
    RunningInstance,
    UnknownInstance,
    Usage,
)
from services.deployer.drivers.memory_use import check_machine
from services.deployer.drivers.process.artifacts import ArtifactFolders
from services.deployer.drivers.process.end import POLL_S, end, kill, record_of, remains, running_in
from services.deployer.drivers.process.end_watcher import EndWatcher
from services.deployer.drivers.process.linux_process import TICKS_S, boot_id, session_members
from services.deployer.drivers.process.listening import listening_of
from services.deployer.drivers.process.memory_cgroup import CgroupLimits
from services.deployer.drivers.process.memory_guard import GuardLimits
from services.deployer.drivers.process.memory_limit import MemoryLimits
from services.deployer.drivers.process.port import PortPicker
from services.deployer.drivers.process.record import (
    InstanceFolder,
    ProcessRecord,
    instance_ids_in,
    instances_root,
    marker_of,
)
from services.deployer.drivers.process.start import inherited_environment, spawn
from services.deployer.drivers.process.volume import make_volumes
from services.deployer.drivers.uncancellable import uncancellable
from shared.clock import now
from shared.host.shortage import shortage
from shared.models import Artifact

log = logging.getLogger(__name__)

LOG_BYTES = 8 * 2**20
KILL_S = 5.0


class ProcessDriver:
    """Implements `Driver` for artifacts that are folders. Apps get a few variables of `platform_environment`, such as
    PATH. Each new instance gets a control group of its own below `groups`. If `groups` is None, `enforce` kills
    instances that exceed their memory limit. A running instance keeps the kind of limit with which it was started."""

    def __init__(self, home: Path, platform_environment: Mapping[str, str], groups: Path | None = None) -> None:
        self._root = instances_root(home)
        self._artifacts = ArtifactFolders(home)
        self._volumes = home / "volumes"
        self._inherited = inherited_environment(platform_environment)
        self._ports = PortPicker(self._root / ".port")
        self._cgroups = CgroupLimits(groups)
        self._guard = GuardLimits()
        self._ends = EndWatcher()
        self._folders: dict[str, InstanceFolder] = {}
        self._cpu_s: dict[str, float] = {}
        self._records = threading.Lock()  # held while a record is changed, and from its creation to its process's start

    async def preflight(self, spec: InstanceSpec) -> None:
        check_machine(spec)
        await self.verify(spec.artifact)

    async def start(self, spec: InstanceSpec) -> InstanceStatus:
        check_machine(spec)
        await uncancellable(asyncio.to_thread(self._start, spec))
        if (status := (await self.statuses([spec.id])).get(spec.id)) is None:
            raise DriverError(f"{spec.id}: its folder was removed while it was started; release again")
        return status

    async def stop(self, instance_id: str, grace_s: float) -> None:
        await end(await asyncio.to_thread(self._record, instance_id), grace_s)
        await asyncio.to_thread(self._release_memory, instance_id)

    async def statuses(self, instance_ids: Iterable[str] | None = None) -> dict[str, InstanceStatus]:
        ids = None if instance_ids is None else list(instance_ids)
        statuses, running = await asyncio.to_thread(self._statuses, ids)
        for record in running:
            self._ends.watch(record)
        return statuses

    async def running(self) -> list[RunningInstance]:
        return await asyncio.to_thread(running_in, self._root)

    async def remove(self, found: RunningInstance, grace_s: float) -> None:
        await end(await asyncio.to_thread(record_of, self._root, found.id), grace_s)
        await asyncio.to_thread(self._forget, found.id)

    async def logs(self, instance_id: str, lines: int) -> list[str]:
        return await asyncio.to_thread(self._logs, instance_id, lines)

    async def listening(self, instance_id: str) -> list[str] | None:
        return await asyncio.to_thread(lambda: listening_of(self._record(instance_id)))

    async def usage(self, instance_ids: Iterable[str]) -> dict[str, Usage]:
        return await asyncio.to_thread(self._usage, set(instance_ids))

    async def set_memory(self, instance_id: str, memory: int) -> None:
        await uncancellable(asyncio.to_thread(self._set_memory, instance_id, memory))

    async def enforce(self) -> None:
        await asyncio.to_thread(self._enforce)

    async def forget(self, instance_id: str) -> None:
        await asyncio.to_thread(self._forget, instance_id)

    async def verify(self, artifact: Artifact) -> None:
        await asyncio.to_thread(self._artifacts.verify, artifact)

    async def collect_garbage(self, needed: Collection[Artifact]) -> None:
        await asyncio.to_thread(self._rotate_logs)
        await asyncio.to_thread(self._sweep_groups)

    async def check(self) -> str | None:
        return None

    def watching_ends(self, on_end: Callable[[str | None], None]) -> contextlib.AbstractContextManager[None]:
        return self._ends.watching(on_end)

    def _folder(self, instance_id: str) -> InstanceFolder:
        if (folder := self._folders.get(instance_id)) is None:
            folder = self._folders[instance_id] = InstanceFolder(self._root / instance_id)
        return folder

    def _all_folders(self) -> list[InstanceFolder]:
        self._folders = {each: self._folder(each) for each in instance_ids_in(self._root)}
        return list(self._folders.values())

    def _record(self, instance_id: str) -> ProcessRecord:
        with self._records:
            return self._read(instance_id)

    def _read(self, instance_id: str) -> ProcessRecord:
        record = self._folder(instance_id).read()
        if record is None:
            raise UnknownInstance(f"no process was started for {instance_id}")
        return record

    def _limits(self, record: ProcessRecord) -> MemoryLimits:
        return self._cgroups if record.group else self._guard

    def _oom_kills(self, record: ProcessRecord) -> int:
        return self._limits(record).oom_kills(record)

    def _start(self, spec: InstanceSpec) -> None:
        folder = self._folder(spec.id)
        with self._records:
            if self._was_started(spec):
                return
        artifact = self._artifacts.usable(spec.artifact)  # may take long, and nothing else waits for it
        with self._records:
            if self._was_started(spec):
                return
            if folder.read() is not None:
                self._replace(folder)
            used = {record.port for other in self._all_folders() if (record := other.read())}
            try:
                folder.make(artifact)
                cgroup_procs = self._cgroups.make(spec.id, spec.memory)
                record = ProcessRecord(
                    id=spec.id,
                    marker=marker_of(folder.path),
                    port=self._ports.pick(used),
                    memory=spec.memory,
                    started_at=now(),
                    boot_id=boot_id(),
                    group=str(cgroup_procs.parent) if cgroup_procs else "",
                    release=spec.release,
                    artifact=spec.artifact.digest,
                )
                folder.write(record)
                inherited = {**self._inherited, **make_volumes(self._volumes, spec)}
                record = spawn(spec, artifact, folder, record, cgroup_procs, inherited)
            except OSError as error:
                if (problem := shortage(error)) is None:
                    raise DriverError(f"{spec.id} cannot be started: {error}") from error
                shutil.rmtree(folder.app, ignore_errors=True)  # half a copy, which takes what little is left
                raise MachineShort(f"{spec.id} cannot be started: {problem.detail}") from error
            with contextlib.suppress(OSError):  # the process is found by its mark
                folder.write(record)

    def _was_started(self, spec: InstanceSpec) -> bool:
        status = self._folder(spec.id).status(self._oom_kills)
        return status is not None and status.is_of(spec.release, spec.artifact)

    def _replace(self, folder: InstanceFolder) -> None:
        """Kills what runs under the instance's id for another release or artifact, and removes its folder. Raises
        DriverError if a process survives.
        """
        record, deadline = self._read(folder.path.name), time.monotonic() + KILL_S
        log.warning("%s is another release's or artifact's and is removed", record.id)
        while remains(record):
            if time.monotonic() > deadline:
                raise DriverError(f"{record.id} of another release runs on after SIGKILL; end it and release again")
            kill(record)
            time.sleep(POLL_S)
        self._limits(record).remove(record)
        shutil.rmtree(folder.path, ignore_errors=True)

    def _statuses(self, ids: list[str] | None) -> tuple[dict[str, InstanceStatus], list[ProcessRecord]]:
        """Returns instance id → status of the instances `ids` (None: all), and the records of the running ones."""
        with self._records:
            folders = self._all_folders() if ids is None else [self._folder(each) for each in ids]
            statuses = [status for folder in folders if (status := folder.status(self._oom_kills)) is not None]
            running = [record for status in statuses if status.running and (record := self._folder(status.id).read())]
        return {status.id: status for status in statuses}, running

    def _logs(self, instance_id: str, lines: int) -> list[str]:
        self._record(instance_id)
        folder = self._folder(instance_id)
        tail: deque[str] = deque(maxlen=lines)
        for path in (folder.older_log, folder.log):
            with contextlib.suppress(FileNotFoundError), path.open(errors="replace") as file:
                tail.extend(line.rstrip("\n") for line in file)
        return list(tail)

    def _usage(self, instance_ids: set[str]) -> dict[str, Usage]:
        with self._records:
            records = [record for each in instance_ids if (record := self._folder(each).running())]
        by_session = {record.pid: record for record in records if record.pid is not None}
        found = {}
        for session, members in session_members(by_session).items():
            record = by_session[session]
            with contextlib.suppress(OSError):  # the process has ended in the meantime
                memory = self._limits(record).use(record, members)
                # The sum decreases when a process ends for which no other process of the session waits.
                summed_s = sum(stat.cpu_ticks for stat in members) / TICKS_S
                cpu_s = self._cpu_s[record.id] = max(summed_s, self._cpu_s.get(record.id, 0.0))
                found[record.id] = Usage(
                    record.started_at, record.memory, memory.working_set, cpu_s, memory.oom_kills, memory.pressure
                )
        return found

    def _set_memory(self, instance_id: str, memory: int) -> None:
        with self._records:
            record = self._read(instance_id)
            if not record.runs():
                raise DriverError(f"{instance_id} does not run")
            self._limits(record).change(record, memory)
            self._folder(instance_id).write(record.model_copy(update={"memory": memory}))

    def _enforce(self) -> None:
        """Kills the instances without a control group that exceed their memory limit, and records each kill before."""
        with self._records:
            folders = [folder for folder in self._all_folders() if not folder.has_group]
            records = [record for folder in folders if (record := folder.unended())]
            exceeding = self._guard.exceeding(record for record in records if not record.group)
            for record in exceeding:
                with contextlib.suppress(OSError):  # a full disk saves nobody
                    self._folder(record.id).write(record.model_copy(update={"oom_kills": 1}))
        for record in exceeding:
            log.warning("%s is killed: over its memory limit of %d bytes", record.id, record.memory)
            kill(record)

    def _release_memory(self, instance_id: str) -> None:
        """Stores how often an ended instance was killed at its limit, then removes the limit and its kernel counter."""
        with self._records, contextlib.suppress(UnknownInstance):
            record = self._read(instance_id)
            if (kills := self._oom_kills(record)) != record.oom_kills:
                self._folder(instance_id).write(record.model_copy(update={"oom_kills": kills}))
            self._limits(record).remove(record)

    def _forget(self, instance_id: str) -> None:
        folder = self._folder(instance_id)
        with self._records:
            record = folder.read()
        if record is not None:  # no other call changes this record now, so the slow part needs no lock
            if remains(record):
                raise DriverError(f"{instance_id} runs; stop it first")
            self._limits(record).remove(record)
        self._cpu_s.pop(instance_id, None)
        shutil.rmtree(folder.path, ignore_errors=True)

    def _rotate_logs(self) -> None:
        for folder in self._all_folders():
            folder.rotate_log(LOG_BYTES)

    def _sweep_groups(self) -> None:
        with self._records:
            self._cgroups.sweep(instance_ids_in(self._root))
