"""What follows when an instance was killed at its memory limit. Pure."""

from shared.manifest import size


def memory_after_kill(limit: int, maximum: int) -> int | None:
    """Twice the limit, at most the manifest's maximum; None if that is reached already. Bytes."""
    return None if limit >= maximum else min(2 * limit, maximum)


def kill_reason(limit: int, maximum: int) -> str:
    if memory_after_kill(limit, maximum) is not None:
        return f"killed: out of memory at its limit of {size(limit)}"
    return f"killed: out of memory at its maximum of {size(limit)}; raise resources.max_memory or mend the app"
