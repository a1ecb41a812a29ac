"""Says when a build ended because of the machine, and not because of its commit."""

from services.build.builds.build import Build
from services.build.logs.build_log import BuildLog
from shared.host.disk_reserve import DiskReserve
from shared.host.shortage import NO_ROOM, shortage

_SIGNS = (NO_ROOM.lower(), "enospc", "disk quota exceeded")  # as steps print them
_LOST = "the disk was full while it ran, so that lines of its log are missing"


def error_reason(build: Build, error: Exception) -> str:
    """Returns the reason of a build that ends in `error` because of an exception."""
    if (problem := shortage(error)) is not None:
        return f"{problem.detail}; then {_again(build)}"
    return f"an error of the platform: {type(error).__name__}: {error}"


def full_disk(build: Build, build_log: BuildLog, reserve: DiskReserve) -> str:
    """Returns why a build that failed cannot be blamed for it, with the remedy: the disk is short of space, and its
    steps or its log met that. Returns an empty text if that is not so. Call it before its folders are removed.
    """
    refusal, lost = reserve.refusal, build_log.has_lost_lines
    if refusal and (lost or any(sign in line.lower() for line in build_log.tail(0) for sign in _SIGNS)):
        return f"{refusal}; then {_again(build)}"
    return f"{_LOST}; {_again(build)}" if lost else ""


def _again(build: Build) -> str:
    return f"build it again (POST /builds/{build.id}/retry)"
