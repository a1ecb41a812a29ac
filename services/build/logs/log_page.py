"""Reads a part of a build's log by line number."""

from dataclasses import dataclass
from pathlib import Path

CHUNK = 2**20
LINES = 1000
LARGEST_BYTES = 4 * 2**20  # of one part of the log: each line has at most some 16 KB


@dataclass(frozen=True)
class LogPart:
    """Holds up to 1000 lines of a log, for one page."""

    first: int
    """Number of the first line, from 1."""
    lines: list[str]
    total: int
    """Number of lines of the whole log, including an unfinished last line."""

    @property
    def before(self) -> int | None:
        """Returns the number of a line in the previous part; None for the first part."""
        return max(1, self.first - LINES) if self.first > 1 else None

    @property
    def after(self) -> int | None:
        """Returns the number of the first line of the next part; None for the last part."""
        last = self.first + len(self.lines) - 1
        return last + 1 if last < self.total else None


def read_part(path: Path, line: int, *, chunk_bytes: int = CHUNK) -> LogPart:
    """Returns the part (1000 lines) of the log that holds line number `line`; the last part if the log has fewer lines.
    Blocks, since it scans the whole file, which takes some 10 ms for 20 MB. Raises FileNotFoundError if there is no
    log.
    """
    starts = [0]  # byte at which each block of a thousand lines begins
    count, at, ended = 0, 0, True
    with path.open("rb") as file:
        while chunk := file.read(chunk_bytes):
            inside = chunk.count(b"\n")
            if (count + inside) // LINES > count // LINES:
                place = -1
                while (place := chunk.find(b"\n", place + 1)) >= 0:
                    count += 1
                    if count % LINES == 0:
                        starts.append(at + place + 1)
            else:
                count += inside
            at += len(chunk)
            ended = chunk.endswith(b"\n")
        total = count if ended else count + 1
        part = min((max(line, 1) - 1) // LINES, max(total - 1, 0) // LINES)
        file.seek(starts[part])
        end = starts[part + 1] if part + 1 < len(starts) else at
        data = file.read(min(end - starts[part], LARGEST_BYTES))
    lines = data.decode(errors="replace").removesuffix("\n").split("\n") if data else []
    return LogPart(part * LINES + 1, lines, total)
