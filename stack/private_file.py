"""Writes files that contain secrets. Imports no packages, because `make up` runs without any."""

import os
from pathlib import Path


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Replaces the file atomically: a reader sees either the old text or the new one. `mode` sets the permissions."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # a file that a killed process left may have another mode
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    fresh.replace(path)
