"""Finds the reports of a step in its container, and copies them into the checkout."""

import contextlib
import posixpath
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from docker.errors import NotFound
from docker.models.containers import Container

from services.build.executors.docker import container_files
from services.build.executors.docker.container_step import MAKE_VENV, SCRIPT, WORKSPACE, kept_venv
from services.build.reports.report_file import MOST_MATCHED, StepStart
from services.build.system.path_glob import PathGlob, fixed_folder, is_glob

FOUND = "/slipway/found"  # file inside the container: lists the files that globs may match
MOST_FOUND = 20_000


def plain_paths(reports: Sequence[str]) -> list[str]:
    return [report for report in reports if not is_glob(report)]


def list_command(reports: Sequence[str]) -> str:
    """Returns a shell command that lists the files in a container that the globs among `reports` may match. It writes
    one line for each into the container's file FOUND: modification time in seconds, a space, and the path, which begins
    with `./`. The list may hold more files than the globs match, since a `*` of `find` also matches slashes.
    """
    finds = []
    for glob in filter(is_glob, reports):
        top, wild = f"./{fixed_folder(glob)}", f"./{glob.replace('**/', '*')}"
        finds.append(f"find {shlex.quote(top)} ! -type d -path {shlex.quote(wild)} -exec stat -c '%Y %n' {{}} +")
    return f"{{ {'; '.join(finds)}; }} 2>/dev/null | head -n {MOST_FOUND} > {FOUND}" if finds else ":"


def step_arguments(image_id: str, reports: Sequence[str], commands: Sequence[str]) -> list[str]:
    """Returns the arguments for the shell that runs `commands` as a step in a container of the image. `reports` holds
    the paths and globs of the step's report files.
    """
    own = ["-c", SCRIPT, "step", kept_venv(image_id), MAKE_VENV, list_command(reports)]
    return [*own, *plain_paths(reports), "--", *commands]


def matched(found: str, reports: Sequence[str], since: datetime) -> list[str] | None:
    """Returns the paths of those files in `found` that a glob of `reports` matches and that were not modified before
    `since`: the first 201 by name. Each line of `found` holds a modification time in seconds, a space and a path.
    Returns None if there were so many files that the list `found` was cut.
    """
    lines = found.splitlines()
    if len(lines) >= MOST_FOUND:
        return None
    expressions, paths = [PathGlob(glob) for glob in filter(is_glob, reports)], set[str]()
    for seconds, _, name in (line.partition(" ") for line in lines):
        path = posixpath.normpath(name)
        is_fresh = seconds.isdecimal() and int(seconds) >= int(since.timestamp())
        if is_fresh and any(glob.matches(path.split("/")) for glob in expressions):
            paths.add(path)
    return sorted(paths)[: MOST_MATCHED + 1]


def copy_reports(
    container: Container, reports: Sequence[str], folder: Path, created_at: datetime, start: StepStart
) -> str:
    """Copies the report files that `reports` (paths and globs) names from the ended container into `folder`. Returns an
    empty text, or the reason why that is impossible, worded to follow "the step". `created_at` is when the container
    was made, by the engine's clock; `start` is the same moment by the clock of this machine's files.
    """
    found = matched(text_of(container, FOUND), reports, created_at)
    if found is None:
        return f"left more than {MOST_FOUND} files that match its reports; name a folder before the first `*`"
    for report in [*plain_paths(reports), *found]:
        with contextlib.suppress(NotFound):
            chunks, status = container.get_archive(f"{WORKSPACE}/{report}")
            container_files.place(folder, report, status or {}, chunks, created_at, start)
    return ""


def text_of(container: Container, file: str) -> str:
    """Returns the content of a file of the container; empty if there is no such file."""
    with contextlib.suppress(NotFound):
        return container_files.only_file(container.get_archive(file)[0]).decode(errors="surrogateescape")
    return ""
