import pytest

from services.build.output import LONGEST, LineSplitter


def lines(*chunks: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.end()


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a", b"b\nc"], ["ab", "c"]),
        ([b"a\r\nb\r", b"\nc"], ["a", "b", "c"]),
        ([b"10%\r20%\r\n"], ["10%", "20%"]),
        ([b"\n\n"], ["", ""]),
        ([b"\x1b[31mred\x1b[0m \x1b]0;title\x07x\n"], ["red x"]),
        ([b"a\x00\x07b\tc\n"], ["a��b\tc"]),
        ([b"caf\xc3", b"\xa9 \xff\n"], ["café �"]),
    ],
)
def test_lines(chunks: list[bytes], expected: list[str]) -> None:
    assert lines(*chunks) == expected


def test_a_line_without_end_is_broken_and_held_in_little_memory() -> None:
    splitter = LineSplitter()
    found = [line for _ in range(100) for line in splitter.feed(b"x" * 1000)] + splitter.end()
    assert sum(map(len, found)) == 100_000
    assert max(map(len, found)) <= LONGEST + 1000
