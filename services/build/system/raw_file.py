"""Writes to files that were opened without a buffer."""

from typing import IO


def write_all(file: IO[bytes], data: bytes) -> None:
    """Writes all of `data` to a file that has no buffer. A single `write` to such a file may write only a part without
    raising an error, as it does when the disk becomes full. Raises OSError; a part may be written by then.
    """
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
