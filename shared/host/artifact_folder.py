"""Finds the folder of an artifact in the platform's data folder (its home), and checks whether the artifact can run
from there, also after the home was moved.
"""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from shared.host.directory_digest import SKIPPED, directory_digest
from shared.models import Artifact

RELEASES = "releases"
PYTHON = ".venv/bin/python"
HARMLESS = (
    ".venv/bin/activate",
    ".venv/pyvenv.cfg",
    "direct_url.json",
)  # they name the path for a person's shell, and for pip


class ArtifactUnfit(Exception):
    """Reports that an artifact cannot be run; the message says why, for people."""


class ArtifactMissing(ArtifactUnfit):
    """Reports that the artifact's folder is not there."""


class ArtifactAltered(ArtifactUnfit):
    """Reports that the artifact's files are no longer those that passed the gates: their digest differs."""


class ArtifactBound(ArtifactUnfit):
    """Reports that the artifact runs only at the path, or on the machine, where it was built."""


def artifact_folder(home: Path, ref: str) -> Path:
    """Returns the folder of an artifact of the kind `directory`. `ref` is its path relative to `home`, the platform's
    data folder. An earlier version of Slipway stored an absolute path, of which only the end `releases/<app>/<build>`
    counts: the folder is looked for in `home`, wherever the home was then.
    """
    path = Path(ref)
    if path.is_absolute() and path.parts[-3:-2] == (RELEASES,):
        return home.joinpath(*path.parts[-3:])
    return home / path


def check_artifact(home: Path, artifact: Artifact) -> None:
    """Raises ArtifactUnfit unless the artifact is in `home` (the platform's data folder), has the digest that it had
    when it was made, and can run from there. Reads every file, so call it in a thread.
    """
    folder = artifact_folder(home, artifact.ref)
    try:
        digest = directory_digest(folder)
    except FileNotFoundError as error:
        raise ArtifactMissing(f"there is no directory {folder.name}") from error
    if digest != artifact.digest:
        raise ArtifactAltered(f"its digest is {digest}, and was {artifact.digest}")
    check_interpreter(folder)
    if is_moved(home, artifact) and (name := _file_with(folder, former_path(artifact))) is not None:
        raise ArtifactBound(f"the home was moved, and {name!a} in {folder.name} names the path at which it was built")


def check_interpreter(folder: Path) -> None:
    """Raises ArtifactBound if the artifact's `.venv` links to a Python that this machine does not have."""
    python = folder / PYTHON
    if python.is_symlink() and not python.exists():
        raise ArtifactBound(f"{folder.name} runs on {os.path.realpath(python)}, which is not on this machine")


def is_moved(home: Path, artifact: Artifact) -> bool:
    """Returns True if the artifact was built at another path than that of its folder."""
    return former_path(artifact) != str(artifact_folder(home, artifact.ref))


def former_path(artifact: Artifact) -> str:
    """Returns the absolute path at which the artifact was built."""
    return artifact.built_in or artifact.ref


def _file_with(folder: Path, text: str) -> str | None:
    """Returns the path, relative to `folder`, of the first file in it that contains `text`, or of the first link whose
    target begins with `text`; None if there is neither. Python's byte-code caches and the files in HARMLESS are not
    searched, because an artifact runs even if these name the path at which it was built.
    """
    wanted = os.fsencode(text)
    for path in _paths(folder):
        name = str(path.relative_to(folder))
        if name.startswith(HARMLESS) or name.endswith(HARMLESS):
            continue
        if path.is_symlink():
            if os.fsencode(path.readlink()).startswith(wanted):
                return name
        elif path.is_file() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(wanted) >= 0:
                    return name
    return None


def _paths(folder: Path) -> Iterator[Path]:
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != SKIPPED)
        links = [name for name in folders if os.path.islink(os.path.join(at, name))]
        yield from (Path(at, name) for name in (*links, *sorted(files)))
