"""Parts of a log by line."""

from pathlib import Path

import pytest

from services.build.logs.log_page import read_part


def log_of(folder: Path, lines: int, end: str = "") -> Path:
    path = folder / "x.log"
    path.write_text("".join(f"line {n}\n" for n in range(1, lines + 1)) + end)
    return path


@pytest.mark.parametrize(
    ("line", "first", "last", "before", "after"),
    [
        (1, "line 1", "line 1000", None, 1001),
        (1000, "line 1", "line 1000", None, 1001),
        (1001, "line 1001", "line 2000", 1, 2001),
        (2500, "line 2001", "line 2500", 1001, None),
        (9999999, "line 2001", "line 2500", 1001, None),
    ],
)
@pytest.mark.parametrize("chunk", [7, 2**20])
def test_a_part_holds_the_line_that_was_asked_for(
    tmp_path: Path,
    chunk: int,
    line: int,
    first: str,
    last: str,
    before: int | None,
    after: int | None,
) -> None:
    part = read_part(log_of(tmp_path, 2500), line, chunk_bytes=chunk)
    assert (part.lines[0], part.lines[-1], part.before, part.after, part.total) == (first, last, before, after, 2500)
    assert part.lines[0] == f"line {part.first}"


def test_an_open_line_counts_and_an_empty_log_has_none(tmp_path: Path) -> None:
    part = read_part(log_of(tmp_path, 1000, "open"), 1001)
    assert (part.first, part.lines, part.total) == (1001, ["open"], 1001)
    whole = read_part(log_of(tmp_path, 1000), 5000)
    assert (whole.first, len(whole.lines), whole.after) == (1, 1000, None)
    empty = read_part(log_of(tmp_path, 0), 3)
    assert (empty.lines, empty.total, empty.after, empty.before) == ([], 0, None, None)
