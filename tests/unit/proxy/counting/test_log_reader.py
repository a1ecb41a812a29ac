"""The reader of Envoy's access log, beside a writer that opens and appends as Envoy does."""

import os
import weakref
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.keeper.log_limit import shorten
from services.proxy.counting.log_reader import AccessLogReader
from services.proxy.envoy.access_log import ACCESS_LOG, REQUEST_LOG, create_access_log
from shared.errors import Unavailable

pytestmark = pytest.mark.anyio


class Writer:
    """Appends to the log. Opens it again, if that was asked for, at the next write, as Envoy does."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ACCESS_LOG
        create_access_log(folder)
        self._open()
        self._is_reopen_due = False
        self.is_away = False
        self.is_late = False
        self.reopened = 0

    def write(self, text: str) -> None:
        if self._is_reopen_due and not self.is_late:
            self._open()
            self._is_reopen_due = False
        os.write(self._file, text.encode("latin-1"))

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        weakref.finalize(self, os.close, self._file)

    async def reopen(self) -> None:
        if self.is_away:
            raise Unavailable("Envoy's admin does not answer")
        self._is_reopen_due = True
        self.reopened += 1


class Log:
    def __init__(self, folder: Path, longest: int = 2**20) -> None:
        self.folder = folder
        self.writer = Writer(folder)
        self.longest = longest
        self.start()

    def start(self) -> None:
        self.reader = AccessLogReader(self.folder, self.writer.reopen, longest=self.longest)

    async def read(self) -> list[str]:
        return [line async for lines in self.reader.slices() for line in lines]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


async def test_reading_begins_after_the_last_whole_line(log: Log) -> None:
    log.writer.write("old\nhal")
    log.start()
    log.writer.write("f\nnew\n")
    assert await log.read() == ["half", "new"]


async def test_a_half_line_is_read_once_it_is_whole(log: Log) -> None:
    log.writer.write("one\ntw")
    assert await log.read() == ["one"]
    assert await log.read() == []
    log.writer.write("o\n")
    assert await log.read() == ["two"]


async def test_odd_bytes_are_read(log: Log) -> None:
    log.writer.write("\xff\x00\r\x85\n")
    assert await log.read() == ["\xff\x00\r\x85"]


async def test_a_long_log_is_replaced_and_the_old_one_removed(tmp_path: Path) -> None:
    log = Log(tmp_path, longest=10)
    await log.read()
    log.writer.write("a line that is long\n")
    assert await log.read() == ["a line that is long"]
    assert log.writer.path.stat().st_size == 0
    log.writer.is_late = True
    assert await log.read() == []
    log.writer.write("to the old one, since Envoy is late\n")
    assert await log.read() == ["to the old one, since Envoy is late"]
    log.writer.write("and more\n")
    log.writer.is_late = False
    log.writer.write("to the new one\n")
    assert await log.read() == ["and more", "to the new one"]
    assert log.writer.reopened == 3  # at the start, and for each log of more than 10 bytes
    assert os.listdir(tmp_path) == [ACCESS_LOG]
    assert log.writer.path.stat().st_mode & 0o777 == 0o600


async def test_envoy_away_while_the_log_is_replaced_is_told_later(tmp_path: Path) -> None:
    log = Log(tmp_path, longest=10)
    await log.read()
    log.writer.write("a line that is long\n")
    log.writer.is_away = True
    with pytest.raises(Unavailable):
        await log.read()
    log.writer.write("more\n")
    log.writer.is_away = False
    assert await log.read() == ["more"]
    log.writer.write("new\n")
    assert await log.read() == ["new"]


async def test_a_reader_that_was_killed_while_it_replaced_the_log_makes_envoy_open_the_new_one(log: Log) -> None:
    log.writer.path.rename(log.folder / f"{ACCESS_LOG}.1")
    log.start()
    assert await log.read() == []
    log.writer.write("new\n")
    assert await log.read() == ["new"]
    assert os.listdir(log.folder) == [ACCESS_LOG]


async def test_a_log_that_was_removed_is_made_anew_without_a_loss(log: Log) -> None:
    await log.read()
    log.writer.path.unlink()
    log.writer.write("to the removed file\n")
    assert await log.read() == ["to the removed file"]
    log.writer.write("new\n")
    assert await log.read() == ["new"]


async def test_a_log_that_the_keeper_emptied_is_read_from_its_beginning(log: Log) -> None:
    log.writer.write("a line that is long\nhal")
    assert await log.read() == ["a line that is long"]
    shorten(log.folder, longest=30)
    assert log.writer.path.stat().st_size > 0
    shorten(log.folder, longest=20)
    assert log.writer.path.stat().st_size == 0
    log.writer.write("new\n")
    assert await log.read() == ["new"]


@pytest.mark.parametrize("name", [ACCESS_LOG, f"{ACCESS_LOG}.1", REQUEST_LOG, f"{REQUEST_LOG}.3"])
def test_the_keeper_empties_each_log_of_envoy_that_is_too_long(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("12345678")
    shorten(tmp_path, longest=8)
    assert (tmp_path / name).read_text() == "12345678"
    shorten(tmp_path, longest=7)
    assert (tmp_path / name).read_text() == ""


async def test_a_log_that_cannot_be_read_is_no_data(tmp_path: Path) -> None:
    (tmp_path / ACCESS_LOG).mkdir()
    reader = AccessLogReader(tmp_path, anyio.lowlevel.checkpoint)
    with pytest.raises(Unavailable, match=r"cannot be read \(Is a directory\); give"):
        async for _ in reader.slices():
            pass


async def test_what_is_waiting_is_known_before_it_is_read(log: Log) -> None:
    log.writer.write("12345\n")
    assert log.reader.waiting == 6
    await log.read()
    assert log.reader.waiting == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab\n", max_size=30), max_size=20))
def test_any_chunking_gives_the_same_lines(chunks: list[str]) -> None:
    anyio.run(_check, [*chunks, "\n"], 2**20)


STEPS = st.one_of(st.text("ab\n", max_size=30).map("{}\n".format), st.sampled_from(["read", "remove"]))


@settings(max_examples=50, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_lines_are_read_once_over_replacements(steps: list[str]) -> None:
    anyio.run(_check, steps, 40)


async def _check(steps: list[str], longest: int) -> None:
    async with anyio.TemporaryDirectory() as folder:
        log, written, seen = Log(Path(folder), longest), "", list[str]()
        await log.read()
        for step in steps:
            if step == "remove":
                if log.reader._is_at_path():  # what was written to a log that nobody has opened is gone
                    log.writer.path.unlink()
            elif step == "read":
                seen += await log.read()
            else:
                log.writer.write(step)
                written += step
                seen += await log.read() if longest == 2**20 else []
        for _ in range(3):
            seen += await log.read()
        assert seen == written.split("\n")[:-1]
