import random

import pytest

from services.build.logs.line_splitter import LONGEST, LineSplitter
from shared.security.mask import Mask

HIDING = Mask(["hunter2", "a" * 6000])


def lines(*chunks: bytes, mask: Mask | None = None) -> list[str]:
    splitter = LineSplitter(mask)
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


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"is hunter2.\n"], ["is ***."]),
        ([b"is hun", b"ter2.\n"], ["is ***."]),
        ([b"is ", *(bytes([code]) for code in b"hunter2"), b"."], ["is ***."]),
        ([b"10%\rhunter2\r\nhunter2"], ["10%", "***", "***"]),
        ([b"hun\x1b[31mter2\x1b[0m\n"], ["***"]),
        ([b"\xff\xfe\xc3hunter2\x00hunter2\xc3\n"], ["\ufffd\ufffd\ufffd***\ufffd***\ufffd"]),
        ([b"a" * 2000, b"a" * 3999, b"a\n"], ["***"]),
    ],
)
def test_what_is_to_be_hidden_is_hidden_however_it_is_cut(chunks: list[bytes], expected: list[str]) -> None:
    assert lines(*chunks, mask=HIDING) == expected


@pytest.mark.parametrize("behind", range(HIDING.longest - 10, HIDING.longest + 3))
@pytest.mark.parametrize("split", [None, 0, 3, 7])
def test_nothing_is_shown_where_a_long_line_is_broken(behind: int, split: int | None) -> None:
    """So many bytes stand behind it that the line is broken before, within or after it."""
    before = LONGEST + HIDING.longest
    data = b"x" * before + b"hunter2" + b"y" * behind
    chunks = [data] if split is None else [data[: before + split], data[before + split :]]
    assert "".join(lines(*chunks, mask=HIDING)) == "x" * before + "***" + "y" * behind


def test_a_long_line_without_end_is_held_in_little_memory_with_secrets_too() -> None:
    splitter = LineSplitter(HIDING)
    for _ in range(300):
        assert "" not in splitter.feed("é".encode() * 500)
        assert len(splitter._rest) <= 2 * HIDING.longest + LONGEST + 1000


PIECES = [
    b"ab",
    b"hunter2",
    b"hun",
    b"\n",
    b"\r",
    b"\r\n",
    b"\x1b",
    b"\x1b[31m",
    b"\x1b]0;",
    b"\x07",
    b"\xc3",
    b"\xa9",
    b"\0",
]


def test_a_line_comes_out_the_same_whatever_stands_around_it() -> None:
    """All lines of a chunk are treated at once; no escape, no half of a character reaches over a line's end."""
    dice = random.Random(5)
    for _ in range(2000):
        data = b"".join(dice.choices(PIECES, k=20))
        assert lines(data, mask=HIDING) == lines(
            *[b"%b\n" % line for line in data.split(b"\n")[:-1]], data.rpartition(b"\n")[2], mask=HIDING
        )
