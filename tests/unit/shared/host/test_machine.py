"""Checks tell what is scarce before it is gone, with the remedy; what is freed and used again is told once."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.host.machine import (
    GIB,
    MIB,
    DiskLimits,
    DiskSpace,
    DiskWatch,
    descriptors_warning,
    full_disk,
    inotify_warning,
    read_disk,
)

LIMITS = DiskLimits(low_bytes=5 * GIB, low_share=0.1, full_bytes=256 * MIB)
HOME = Path("/home/slipway")


def space(free: float, total: float = 100 * GIB, files: tuple[int, int] = (0, 0)) -> DiskSpace:
    return DiskSpace(HOME, int(total), int(free), *files)


@pytest.mark.parametrize(
    ("found", "low", "full"),
    [
        (space(6 * GIB), False, False),  # 6 % only, but enough
        (space(4 * GIB), True, False),
        (space(4 * GIB, total=20 * GIB), False, False),  # little, but a fifth of it all
        (space(1 * GIB, total=20 * GIB), True, False),
        (space(200 * MIB), True, True),
        (space(300 * MIB, total=2 * GIB), False, False),  # a small volume
        (space(90 * GIB, files=(1000, 51)), False, False),
        (space(90 * GIB, files=(1000, 49)), True, False),
        (space(90 * GIB, files=(1000, 4)), True, True),
    ],
)
def test_a_disk_is_low_and_full_by_what_is_left_of_it(found: DiskSpace, low: bool, full: bool) -> None:
    assert (LIMITS.is_low(found), LIMITS.is_full(found)) == (low, full)


def test_a_disk_that_was_low_is_so_until_a_fifth_more_is_free() -> None:
    assert LIMITS.is_low(space(5.5 * GIB), was_low=True)
    assert not LIMITS.is_low(space(6.1 * GIB), was_low=True)


def test_the_space_is_that_of_the_file_system(tmp_path: Path) -> None:
    found, real = read_disk(tmp_path / "not" / "made" / "yet"), os.statvfs(tmp_path)
    assert found.total == real.f_blocks * real.f_frsize
    assert 0 < found.free <= found.total


@pytest.mark.anyio
async def test_a_low_disk_is_a_warning_and_a_full_one_a_problem_with_the_remedy(tmp_path: Path) -> None:
    whole = read_disk(tmp_path).total
    low = DiskWatch(tmp_path, DiskLimits(low_bytes=whole + 1, low_share=1.01, full_bytes=0))
    assert await low.problem() is None
    warning = await low.warning()
    assert warning is not None
    assert warning.startswith(f"the disk of {tmp_path} has ")
    assert "SLIPWAY_BUILD_KEEP_ARTIFACTS" in warning
    enough = DiskWatch(tmp_path, DiskLimits(low_bytes=0, low_share=0.1, full_bytes=0))
    assert (await enough.problem(), await enough.warning()) == (None, None)


@pytest.mark.anyio
async def test_a_full_disk_is_low_too(tmp_path: Path) -> None:
    whole = read_disk(tmp_path).total
    limits = DiskLimits(low_bytes=whole + 1, low_share=1.01, full_bytes=whole + 1)
    watch, said = DiskWatch(tmp_path, limits), full_disk(tmp_path, limits)
    assert said is not None and "which is full for Slipway: delete what is not needed" in said
    assert (await watch.warning() is not None, await watch.problem() is not None) == (True, True)


@contextlib.contextmanager
def at_most(files: int) -> Iterator[None]:
    """Lets this process open only so many files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.anyio
async def test_descriptors_are_warned_of_before_and_when_they_are_gone() -> None:
    assert await descriptors_warning() is None
    opened = len(os.listdir("/proc/self/fd"))
    with at_most(int(opened * 1.2)):
        warning = await descriptors_warning()
    assert warning is not None
    assert "files open: raise its limit (ulimit -n" in warning
    with at_most(1):
        gone = await descriptors_warning()
    assert gone is not None and gone.startswith("this service has 1 of at most 1 files open")


@pytest.mark.anyio
async def test_a_machine_without_descriptors_is_warned_of(tmp_path: Path) -> None:
    table = tmp_path / "file-nr"
    for text, said in (("900\t0\t1000\n", True), ("700\t0\t1000\n", False), ("?", False)):
        table.write_text(text)
        assert (await descriptors_warning(table) is not None) == said


@pytest.mark.anyio
async def test_too_few_inotify_instances_are_warned_of() -> None:
    with at_most(1):
        warning = await inotify_warning()

    assert warning is not None and "fs.inotify.max_user_instances" in warning


@pytest.mark.anyio
async def test_enough_inotify_instances_are_no_warning_and_are_given_back() -> None:
    for _ in range(100):  # a user has 128
        assert await inotify_warning() is None
