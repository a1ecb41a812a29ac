"""Errors tell what the machine has run out of, with the remedy."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from shared.host.disk_reserve import DiskReserve
from shared.host.machine import DiskLimits
from shared.host.shortage import is_passing, shortage
from shared.manifest import MIB


def of(code: int, path: str | None = None) -> OSError:
    return OSError(code, os.strerror(code), path) if path else OSError(code, os.strerror(code))


def raised_from(cause: BaseException) -> BaseException:
    error = ValueError("cannot be started")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "words", "passes"),
    [
        (of(errno.ENOSPC, "/home/x"), 507, "the disk is full (No space left on device: /home/x): delete", False),
        (of(errno.EDQUOT), 507, "the disk is full", False),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]), 507, "the disk is full", False),
        (ValueError("fatal: write error: No space left on device"), 507, "the disk is full", False),
        (raised_from(of(errno.ENOSPC)), 507, "the disk is full", False),
        (of(errno.EMFILE), 503, "ulimit -n", True),
        (of(errno.ENFILE), 503, "fs.file-max", True),
        (of(errno.ENOMEM), 503, "no memory left", True),
        (MemoryError(), 503, "no memory left", False),
        (of(errno.EAGAIN), 503, "ulimit -u", True),
        (RuntimeError("can't start new thread"), 503, "ulimit -u", False),
    ],
)
def test_a_shortage_is_recognised(error: Exception, status: int, words: str, passes: bool) -> None:
    problem = shortage(error)
    assert problem is not None
    assert (problem.status, words in problem.detail) == (status, True), problem.detail
    assert (isinstance(error, OSError) and is_passing(error)) == passes


@pytest.mark.parametrize("error", [of(errno.ENOENT, "/x"), of(errno.EACCES), ValueError("no"), raised_from(KeyError())])
def test_another_error_is_none(error: Exception) -> None:
    assert shortage(error) is None


def test_the_reserve_is_kept_also_on_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert DiskReserve(tmp_path / "not" / "yet", DiskLimits(0, 0, 0)).refusal == ""
    assert abs(DiskReserve(tmp_path, DiskLimits(0, 0, 0)).room_bytes - free) < 64 * MIB
    short = DiskReserve(tmp_path, DiskLimits(0, 0, free + 1024 * MIB))
    assert short.room_bytes == 0
    assert "left, which is full for Slipway: delete what is not needed" in short.refusal
