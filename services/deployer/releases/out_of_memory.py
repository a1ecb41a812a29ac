"""Computes the new memory limit after an instance was killed at its limit, and words the reason for people. Pure."""

from shared.manifest import size


def memory_after_kill(limit: int, maximum: int) -> int | None:
    """Returns twice the limit, but at most `maximum`, in bytes; None if the limit is already at the maximum."""
    return None if limit >= maximum else min(2 * limit, maximum)


def kill_reason(limit: int, maximum: int) -> str:
    """Returns the reason for people why an instance ended that was killed at its memory limit (`limit`, in bytes). If
    the limit is already at `maximum`, the text includes the remedy.
    """
    if memory_after_kill(limit, maximum) is not None:
        return f"killed: out of memory at its limit of {size(limit)}"
    return f"killed: out of memory at its maximum of {size(limit)}; raise resources.max_memory or mend the app"
