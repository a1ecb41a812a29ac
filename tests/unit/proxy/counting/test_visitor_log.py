"""The log of requests is kept within its size, and the last and slowest requests of an app are found in it."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from services.proxy.counting import visitor_log
from services.proxy.counting.visitor_log import BLOCK, RequestOrder, VisitorLog
from services.proxy.envoy.access_log import REQUEST_LOG, create_log
from shared.errors import Unavailable

pytestmark = pytest.mark.anyio

NEWEST, SLOWEST = RequestOrder.NEWEST, RequestOrder.SLOWEST
LONGEST = 4000


def line(path: str, *, app: str = "notes", duration_ms: int = 3, **fields: Any) -> str:
    """A line as Envoy writes it."""
    given = {"time": "2026-01-01T00:00:00.250Z", "route": f"{app}/stable", "path": path, "duration_ms": duration_ms}
    return json.dumps({**given, **fields}, separators=(",", ":")) + "\n"


class Log(VisitorLog):
    """A log in a folder; `reopened` is how often Envoy was made to open its log again."""

    def __init__(self, folder: Path, longest: int = LONGEST) -> None:
        super().__init__(folder, self._reopened, longest)
        self.path = folder / REQUEST_LOG
        self.reopened = 0
        self.envoy_is_away = False

    async def _reopened(self) -> None:
        if self.envoy_is_away:
            raise Unavailable("Envoy does not answer")
        self.reopened += 1

    def write(self, *lines: str) -> None:
        create_log(self.path)
        with self.path.open("a") as file:
            file.writelines(lines)

    def parts(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir())

    async def paths(self, order: RequestOrder, limit: int = 100, app: str = "notes") -> list[str | None]:
        return [request.path for request in await self.find(app, order, limit)]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


async def test_the_newest_requests_of_an_app_come_first(log: Log) -> None:
    log.write(line("/1"), line("/other", app="notes-2"), line("/2"), line("/other", app="blog"), line("/3"))
    assert await log.paths(NEWEST) == ["/3", "/2", "/1"]
    assert await log.paths(NEWEST, 2) == ["/3", "/2"]


async def test_the_slowest_requests_are_those_that_waited_longest_for_their_answer(log: Log) -> None:
    log.write(
        line("/long-download", duration_ms=90_000, first_byte_ms=5),
        line("/slow", duration_ms=2000, first_byte_ms=1999),
        line("/no-answer", duration_ms=3000),
        line("/fast", duration_ms=7, first_byte_ms=6),
        line("/other", app="blog", duration_ms=5000),
    )
    assert await log.paths(SLOWEST) == ["/no-answer", "/slow", "/fast", "/long-download"]
    assert await log.paths(SLOWEST, 1) == ["/no-answer"]


@pytest.mark.parametrize("order", [NEWEST, SLOWEST])
async def test_a_visitor_cannot_forge_a_request_of_another_app_or_its_time(log: Log, order: RequestOrder) -> None:
    log.write(line("/mine"), line('/","route":"notes/stable","first_byte_ms":999999,"', app="blog"))
    assert await log.paths(order) == ["/mine"]
    log.write(line('/","first_byte_ms":999999,"', first_byte_ms=1), line("/slower", first_byte_ms=2))
    assert (await log.paths(SLOWEST))[0] == "/mine", "which has waited for 3 ms"


async def test_a_broken_line_is_left_out(log: Log) -> None:
    log.write('{"route":"notes/stable","path":"\\303"}\n', line("/good"), '{"route":"notes/stable","duration_ms":')
    for order in RequestOrder:
        assert await log.paths(order) == ["/good"]


async def test_lines_are_whole_where_the_blocks_of_a_long_log_meet(log: Log) -> None:
    lines = [line(f"/{number}", user_agent="x" * (number % 700)) for number in range(2 * BLOCK // 400)]
    log.write(*lines)
    assert log.path.stat().st_size > 2 * BLOCK
    found = await log.find("notes", NEWEST, len(lines))
    assert [request.path for request in found] == [f"/{number}" for number in reversed(range(len(lines)))]


async def test_a_long_log_becomes_an_older_part_and_the_oldest_one_goes(log: Log) -> None:
    await log.rotate()
    for number in range(6):
        log.write(line(f"/{number}", user_agent="x" * (LONGEST // 4)))
        await log.rotate()
    log.write(line("/6"))
    await log.rotate()
    assert log.parts() == ["requests.log", "requests.log.1", "requests.log.2", "requests.log.3"]
    assert await log.paths(NEWEST) == ["/6", "/5", "/4", "/3"]
    assert log.reopened == 7, "once at the beginning, in case Envoy writes to an older part"
    assert log.path.stat().st_mode & 0o777 == 0o600


async def test_a_renaming_that_envoy_did_not_hear_of_is_told_again(log: Log) -> None:
    log.write(line("/1", user_agent="x" * LONGEST))
    log.envoy_is_away = True
    with pytest.raises(Unavailable):
        await log.rotate()
    log.envoy_is_away = False
    await log.rotate()
    assert (log.reopened, await log.paths(NEWEST)) == (1, ["/1"])


async def test_a_log_that_is_switched_off_is_removed_and_its_list_says_the_setting(tmp_path: Path) -> None:
    Log(tmp_path).write(line("/1"))
    (tmp_path / f"{REQUEST_LOG}.2").touch()
    log = Log(tmp_path, 0)
    await log.rotate()
    assert log.parts() == []
    with pytest.raises(Unavailable, match="SLIPWAY_REQUEST_LOG_MB"):
        await log.find("notes", NEWEST, 1)


async def test_of_a_removed_app_no_request_is_left_in_any_part_and_those_of_others_stay(log: Log) -> None:
    forged = '"route":"felled/stable"'
    log.write(line("/1", app="felled"), line("/2"), line(f"/{forged}"))
    await log.forget("felled", wait_s=0)
    log.write(line("/3", app="felled"), line("/4"))
    await log.forget("felled", wait_s=0)
    assert await log.paths(NEWEST, app="felled") == []
    assert await log.paths(NEWEST) == ["/4", f"/{forged}", "/2"]
    parts = log.parts()
    await log.forget("felled", wait_s=0)
    assert log.parts() == parts == [REQUEST_LOG, f"{REQUEST_LOG}.1", f"{REQUEST_LOG}.2"]
    assert {path.stat().st_mode & 0o777 for path in log.path.parent.iterdir()} == {0o600}


async def test_a_part_that_cannot_be_written_is_told_with_the_remedy_and_loses_nothing(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write(line("/1", app="felled"), line("/2"))

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(visitor_log, "create_log", full)
        with pytest.raises(Unavailable, match=r"felled cannot be removed .*No space left.*make room"):
            await log.forget("felled", wait_s=0)
    log.write(line("/3"))
    assert await log.paths(NEWEST) == ["/3", "/2"]
    await log.forget("felled", wait_s=0)
    assert await log.paths(NEWEST, app="felled") == []
    assert await log.paths(NEWEST) == ["/3", "/2"]
