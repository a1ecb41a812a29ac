"""Writes to files without a buffer."""

from typing import IO


def write_all(file: IO[bytes], data: bytes) -> None:
    """Writes all of `data` to a file that has no buffer. One write of such a file may take only a part, without an
    error: so it does where a disk becomes full. Raises OSError; a part may have been written then.
    """
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
