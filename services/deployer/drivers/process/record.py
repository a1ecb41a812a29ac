"""Stores the process driver's record of each instance in `<home>/instances/<id>/`, where it outlives the deployer."""

import contextlib
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

from services.deployer.drivers.driver import KILLED, InstanceStatus
from services.deployer.drivers.process.linux_process import boot_id, marked_with, process_stat

HOST = "127.0.0.1"
MARKER = "SLIPWAY_INSTANCE_FOLDER"  # environment variable of all processes of an instance
SHARED = (".venv", "node_modules")  # folders that all instances of an artifact share: too large to copy, and read-only


class ProcessRecord(BaseModel):
    """Holds the record of an instance. It is written before the process is started (without `pid`) and again after the
    start.
    """

    id: str
    marker: str
    """Variable `NAME=value` that only processes of this instance have in their environment."""
    port: int
    memory: int
    """Memory limit in bytes."""
    started_at: datetime
    boot_id: str
    """Boot id of the kernel when the instance was started."""
    pid: int | None = None
    """Pid of the instance's first process, which leads its session; None until that is started."""
    start_ticks: int | None = None
    """Start of the first process in ticks since boot; None if it had ended before that was read."""
    group: str = ""
    """Path of the control group that enforces the memory limit; empty if there is none."""
    oom_kills: int = 0
    """Number of kills at the memory limit that were recorded so far; the control group may report more."""
    stopped: bool = False
    """True if the instance was stopped together with the platform."""
    release: str = ""
    """Id of the instance's release; empty in records of earlier versions, as is `artifact`."""
    artifact: str = ""
    """Digest of the instance's artifact."""

    def runs(self) -> bool:
        stat = process_stat(self.pid) if self.pid and self.boot_id == boot_id() else None
        return stat is not None and stat.start_ticks == self.start_ticks


class InstanceFolder:
    """Manages the folder of an instance. It holds `record.json`; `exit_code`, written by the shells in which `start.py`
    runs the command; `log` and `log.1`; HOME and TMPDIR; and `app`, the working directory, which is a copy, so that the
    app's writes leave the artifact unchanged. The record is parsed again only when its file has been replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log"
        self.older_log = path / "log.1"
        self.exit_code = path / "exit_code"
        self.app = path / "app"
        self.home = path / "home"
        self.tmp = path / "tmp"
        self._record = path / "record.json"
        self._parsed: tuple[tuple[int, int, int], ProcessRecord] | None = None
        self._has_ended = False

    @property
    def has_group(self) -> bool:
        """Returns True if a control group limits the memory of the instance, according to the record as it was last
        read. Reads no file.
        """
        return self._parsed is not None and bool(self._parsed[1].group)

    def make(self, artifact: Path) -> None:
        """Creates the folder with a fresh copy of the artifact, in which `.venv` and `node_modules` are links to the
        artifact's. The call may be repeated while no process runs there. Raises OSError.
        """
        for folder in (self.home, self.tmp):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.app, ignore_errors=True)
        shutil.copytree(
            artifact, self.app, symlinks=True, ignore=lambda at, names: SHARED if Path(at) == artifact else ()
        )
        for name in SHARED:
            if (artifact / name).is_dir():
                (self.app / name).symlink_to(artifact / name)

    def rotate_log(self, most_bytes: int) -> None:
        """Copies and truncates a log of more than `most_bytes`, since the app's process keeps the file open; lines
        written in between are lost. If the disk has no room for the copy, the whole log is lost, since the disk would
        otherwise stay full.
        """
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > most_bytes:
                try:
                    shutil.copyfile(self.log, self.older_log)
                except OSError:
                    self.older_log.unlink(missing_ok=True)
                os.truncate(self.log, 0)

    def write(self, record: ProcessRecord) -> None:
        fresh = self._record.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(record.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._record)
        self._parsed, self._has_ended = None, False

    def read(self) -> ProcessRecord | None:
        """Returns the record; None if there is none, or if the instance's process was never started."""
        record = self._read()
        if record is not None and record.pid is None:
            # The deployer was killed after it started the process and before it recorded that, or the disk was full.
            leader = next((stat for stat in marked_with(record.marker) if stat.pid == stat.session), None)
            if leader is not None:
                record = record.model_copy(update={"pid": leader.pid, "start_ticks": leader.start_ticks})
                with contextlib.suppress(OSError):  # if the disk is full, it is looked for again
                    self.write(record)
            elif not self.exit_code.exists():
                return None
        return record

    def unended(self) -> ProcessRecord | None:
        """Returns the record; None if there is none, or if an earlier call has found that the instance ended. In the
        second case it reads no file, since an ended instance is never started again.
        """
        return None if self._has_ended else self.read()

    def running(self) -> ProcessRecord | None:
        """Returns the record if the instance runs, else None."""
        if (record := self.unended()) is None:
            return None
        self._has_ended = not record.runs()
        return None if self._has_ended else record

    def status(self, oom_kills: Callable[[ProcessRecord], int]) -> InstanceStatus | None:
        """Returns the instance's status; None if there is no record. `oom_kills` returns how often an ended instance
        was killed at its memory limit. If the shell that should record the exit code was killed too, the exit code is
        137 if there were kills at the limit, else None.
        """
        record = self.read()
        if record is None:
            return None
        running = record.runs()
        self._has_ended = not running
        if not running:
            record = self.read() or record  # `stopped` may have been written just before it ended
        exit_code = None if running else self._read_exit_code()
        kills = 0 if running else oom_kills(record)
        was_killed = kills > 0 and exit_code in (None, KILLED)
        return InstanceStatus(
            id=record.id,
            address=f"{HOST}:{record.port}",
            running=running,
            started_at=record.started_at,
            exit_code=KILLED if was_killed else exit_code,
            interrupted=not running and (record.stopped or record.boot_id != boot_id()),
            oom_killed=was_killed,
            oom_kills=kills,
            release=record.release,
            artifact=record.artifact,
        )

    def _read(self) -> ProcessRecord | None:
        try:
            found = self._record.stat()
            version = found.st_ino, found.st_mtime_ns, found.st_size
            if (parsed := self._parsed) is None or parsed[0] != version:
                parsed = self._parsed = version, ProcessRecord.model_validate_json(self._record.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None
        return parsed[1]

    def _read_exit_code(self) -> int | None:
        try:
            return int(self.exit_code.read_text())
        except (FileNotFoundError, ValueError):
            return None


def marker_of(folder: Path) -> str:
    """Returns the variable (`NAME=value`) that marks the processes of the instance with that folder."""
    return f"{MARKER}={folder}"


def instances_root(home: Path) -> Path:
    return home / "instances"


def instance_ids_in(root: Path) -> list[str]:
    """Returns the ids of all instances with a folder below `root`, sorted, even of those without a record."""
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []
