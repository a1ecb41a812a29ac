"""Recognises that a container ended because it lacks a Linux capability, and words a hint for people. Pure."""

import re
from collections.abc import Iterable, Sequence

# The kernel's error EPERM in the words of libc, Go and Rust, and of strace and Node.
REFUSED = re.compile(r"operation not permitted|\bEPERM\b", re.IGNORECASE)


def capability_hint(lines: Iterable[str], kept: Sequence[str] | None) -> str | None:
    """Returns a hint with the reason and the remedy if `lines`, the end of an instance's log, say that the kernel
    refused an operation; else None. `kept` holds the capabilities that the instance kept
    (`InstanceStatus.capabilities`). If it is None, no capability was taken away, and the result is None.
    """
    if kept is None or not any(REFUSED.search(line) for line in lines):
        return None
    if not kept:
        return (
            "the kernel refused it something (“Operation not permitted”): containers run without capabilities unless "
            "their image starts as root; let the program do without, or the image start as root and change its user"
        )
    return (
        "the kernel refused it something (“Operation not permitted”): of root's capabilities its container keeps only "
        f"{', '.join(kept)}; let the program do without others, for example as another user (USER in the Dockerfile)"
    )
