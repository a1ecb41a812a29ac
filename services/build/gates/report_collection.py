"""Reads the reports that a step promised."""

from collections.abc import Callable, Collection
from pathlib import Path

from services.build.gates.code_metrics import Reported
from services.build.reports.report import Unreadable
from services.build.reports.report_file import StepStart, read_fresh
from shared.manifest import Reports


def collect(
    reports: Reports, folder: Path, start: StepStart, committed: Collection[str], mask: Callable[[str], str] = str
) -> Reported:
    """Returns every report that was written in `folder` since `start`; those that do not count are in `unreadable`.

    `committed` holds the blob ids of the commit's files. Names and messages of tests and findings go through `mask`.
    """
    reported = Reported()
    for kind, path in reports:
        if path is not None:
            try:
                reported.read(kind, read_fresh(folder, path, start, committed), start.at, mask)
            except Unreadable as error:
                reported.refuse(kind, f"{path} {error}")
    return reported
