import asyncio
from pathlib import Path

import pytest

from services.build.logs.build_log import BuildLogs
from shared.security.mask import Mask

pytestmark = pytest.mark.anyio


async def never() -> bool:
    return False


async def at_once() -> bool:
    return True


async def test_a_follower_gets_lines_as_they_come_and_ends_with_the_build(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path)
    over = False

    async def ended() -> bool:
        return over

    async def follow() -> bytes:
        return b"".join([lines async for lines in logs.follow("notes-1", ended)])

    follower = asyncio.create_task(follow())
    with logs.open("notes-1") as log:
        log.say("begins")
        await asyncio.sleep(0.01)
        log.output(b"half a ")
        log.output(b"line\nand")
        log.say("ends")
    over = True
    logs.wake("notes-1")
    assert await asyncio.wait_for(follower, 0.9) == b"begins\nhalf a line\nand\nends\n"


async def test_a_follower_resumes_at_a_byte(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path)
    logs.say("notes-1", "first")
    logs.say("notes-1", "second")
    assert [lines async for lines in logs.follow("notes-1", at_once, 6)] == [b"second\n"]


async def test_a_log_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert [lines async for lines in BuildLogs(tmp_path).follow("notes-1", at_once)] == []


@pytest.mark.parametrize("start", [7, 2**62, 2**64])
def test_a_log_is_empty_from_beyond_its_end_on(tmp_path: Path, start: int) -> None:
    logs = BuildLogs(tmp_path)
    logs.path("notes-1").write_bytes(b"a line")
    assert logs.read("notes-1", start) == b""


async def test_followers_end_with_the_service_though_the_build_has_not(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path)
    logs.say("notes-1", "line")

    async def follow() -> bytes:
        return b"".join([lines async for lines in logs.follow("notes-1", never)])

    follower = asyncio.create_task(follow())
    await asyncio.sleep(0.01)
    logs.close()
    assert await asyncio.wait_for(follower, 0.5) == b"line\n"


async def test_a_follower_that_leaves_is_forgotten(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path)
    logs.say("notes-1", "line")
    follower = logs.follow("notes-1", never)
    assert await anext(follower) == b"line\n"
    await follower.aclose()  # type: ignore[attr-defined]
    assert not logs._followers


def test_output_is_capped_but_the_platform_still_speaks(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path, largest_bytes=2**20)
    with logs.open("notes-1") as log:
        for _ in range(40):
            log.output(b"x" * 99 + b"\n" * 1 + b"y" * 2**16 + b"\n")
        log.say("--- gates")
    text = logs.path("notes-1").read_text()
    assert len(text) < 2**20 + 2**17
    assert text.count("the rest of the output is left out") == 1
    assert text.endswith("--- gates\n")


def test_the_tail_begins_where_the_step_began(tmp_path: Path) -> None:
    with BuildLogs(tmp_path).open("notes-1") as log:
        log.say("earlier")
        start = log.size
        log.output(b"error: no\nrest")
        assert log.tail(start) == ["error: no", "rest"]


def test_what_is_hidden_is_in_no_line(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path)
    with logs.open("notes-1") as log:
        log.output(b"before: hunter2")
        log.hide(Mask(["hunter2"]))
        log.output(b"a step: hun")
        log.output(b"ter2\n")
        log.say("the platform: hunter2\nthe app: hunter2")
        assert log.tail(log.size - 4) == ["***"]
    shown = ["before: hunter2", "a step: ***", "the platform: ***", "the app: ***"]
    assert logs.path("notes-1").read_text().splitlines() == shown


def test_where_the_log_is_full_no_half_of_it_is_shown(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path, largest_bytes=1000)
    with logs.open("notes-1") as log:
        log.hide(Mask(["hunter2"]))
        log.output(b"x" * 1000 + b"\nhun")
        log.output(b"ter2\n")
        log.say("--- gates")
    assert logs.path("notes-1").read_text().endswith("left out\n--- gates\n")


async def test_lines_are_counted_over_restarts_of_the_service(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path)
    with logs.open("notes-1") as log:
        log.say("queued")
        log.output(b"one\ntwo\nopen")
        assert log.lines == 3
    with logs.open("notes-1") as log:
        assert log.lines == 4
        log.say("taken up again")
        assert log.lines == 5


async def test_lines_of_channels_do_not_mix_and_each_hides_what_is_secret(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path)
    with logs.open("notes-1") as log:
        log.hide(Mask(["hunter2"]))
        one, two = log.channel("one | "), log.channel("two | ")
        one.output(b"a hun")
        two.output(b"b hun")
        one.output(b"ter2\n")
        log.say("platform")
        two.output(b"ter2\nopen")
        two.say("of two")
        assert (one.tail(), two.tail()) == (["a ***"], ["b ***", "open"])
    lines = logs.path("notes-1").read_text().splitlines()
    assert lines == ["one | a ***", "platform", "two | b ***", "two | open", "of two"]


async def test_a_full_log_says_so_once_and_shows_no_half_of_a_secret(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path, largest_bytes=100)
    with logs.open("notes-1") as log:
        log.hide(Mask(["hunter2"]))
        one, two = log.channel(), log.channel()
        two.output(b"hun")
        one.output(b"x" * 200 + b"\n")
        two.output(b"ter2\n")
        two.flush()
    text = logs.path("notes-1").read_text()
    assert text.count("the log has reached") == 1 and "hun" not in text
