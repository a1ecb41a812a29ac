"""Recognises builds that failed because of the machine, not because of their commit."""

from services.build.builds.build import Build
from services.build.logs.build_log import BuildLog
from shared.host.disk_reserve import DiskReserve
from shared.host.shortage import NO_ROOM, shortage

_SIGNS = (NO_ROOM.lower(), "enospc", "disk quota exceeded")  # as steps print them
_LOST = "the disk was full while it ran, so that lines of its log are missing"


def error_reason(build: Build, error: Exception) -> str:
    """Returns the reason to store with a build that ends in `error` because of this exception."""
    if (problem := shortage(error)) is not None:
        return f"{problem.detail}; then {_again(build)}"
    return f"an error of the platform: {type(error).__name__}: {error}"


def full_disk(build: Build, build_log: BuildLog, reserve: DiskReserve) -> str:
    """Returns the reason, with the remedy, if the build failed because of a full disk: lines of its log could not be
    written, or the disk is full now and the log has an error of a step about that. Otherwise returns an empty text.
    Call it before the build's folders are removed, since that frees space.
    """
    refusal, lost = reserve.refusal, build_log.has_lost_lines
    if refusal and (lost or any(sign in line.lower() for line in build_log.tail(0) for sign in _SIGNS)):
        return f"{refusal}; then {_again(build)}"
    return f"{_LOST}; {_again(build)}" if lost else ""


def _again(build: Build) -> str:
    return f"build it again (POST /builds/{build.id}/retry)"
