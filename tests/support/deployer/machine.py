"""Finds out whether the machine of the tests lets them write control groups, and which of these are left."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.deployer.drivers.process.memory_cgroup import parent_for, parents_of


def writable_parent(home: Path) -> Path:
    """Returns the folder for the home's control groups. Where none can be written, the test is skipped; in CI it
    fails.
    """
    try:
        parent = parent_for("cgroup", home)
    except ValueError as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))
    assert parent is not None
    return parent


def leftovers(home: Path) -> Iterator[Path]:
    """The home's control groups that are still there."""
    return (parent for parent in parents_of(home) if parent.exists())
