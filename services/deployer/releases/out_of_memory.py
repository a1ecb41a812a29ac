"""Computes the new memory limit, and the reason for people, after an instance was killed at its limit. Pure."""

from shared.manifest import size


def memory_after_kill(limit: int, maximum: int) -> int | None:
    """Returns twice the limit, at most `maximum`, in bytes; None if the limit is at the maximum already."""
    return None if limit >= maximum else min(2 * limit, maximum)


def kill_reason(limit: int, maximum: int) -> str:
    """Returns the reason of the kill for people, with the remedy if the limit cannot be raised."""
    if memory_after_kill(limit, maximum) is not None:
        return f"killed: out of memory at its limit of {size(limit)}"
    return f"killed: out of memory at its maximum of {size(limit)}; raise resources.max_memory or mend the app"
