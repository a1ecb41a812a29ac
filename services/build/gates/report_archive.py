"""Stores the parsed reports of builds as `<folder>/<build>.json.gz`. Methods block, so callers should run them in a
thread.
"""

import contextlib
import gzip
import os
from pathlib import Path

from pydantic import ValidationError

from services.build.gates.report_record import BuildReport

SUFFIX = ".json.gz"
UNFINISHED = ".fresh"


class ReportFiles:
    """Writes, reads and removes the report files of builds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, build: str) -> Path:
        return self.folder / f"{build}{SUFFIX}"

    def write(self, build: str, report: BuildReport) -> None:
        """Writes the build's report, atomically. Replaces an earlier one. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.folder / f".{build}{UNFINISHED}"
        try:
            fresh.write_bytes(gzip.compress(report.model_dump_json().encode(errors="replace"), compresslevel=3))
            os.replace(fresh, self.path(build))
        except OSError:
            fresh.unlink(missing_ok=True)
            raise

    def remove_unfinished(self) -> None:
        """Removes the files that a killed service has left half-written. Call it before the first `write`."""
        for path in self.folder.glob(f".*{UNFINISHED}"):
            path.unlink(missing_ok=True)

    def read(self, build: str) -> BuildReport | None:
        """Returns the build's report; None if there is none or it cannot be parsed."""
        with contextlib.suppress(FileNotFoundError, EOFError, gzip.BadGzipFile, ValidationError):
            return BuildReport.model_validate_json(gzip.decompress(self.path(build).read_bytes()))
        return None

    def remove(self, build: str) -> None:
        """Removes the build's report file, if there is one."""
        self.path(build).unlink(missing_ok=True)
