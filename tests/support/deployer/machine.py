"""What the machine of the tests can do: whether control groups can be written, and what is left of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.deployer.drivers.process.memory_cgroup import parent_for, parents_of


def writable_parent(home: Path) -> Path:
    """Where the home's control groups go. Where none can be written the test is skipped, but in CI it fails."""
    try:
        parent = parent_for("cgroup", home)
    except ValueError as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))
    assert parent is not None
    return parent


def leftovers(home: Path) -> Iterator[Path]:
    """The home's control groups that are still there."""
    return (parent for parent in parents_of(home) if parent.exists())
