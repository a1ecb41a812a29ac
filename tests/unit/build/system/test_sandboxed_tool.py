"""Programs that read what strangers wrote: whatever they do, the service has a reason, and nothing of them goes on."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.build.system.sandboxed_tool import LARGEST_ANSWER_BYTES, ToolFailed, answer
from shared.host.process_search import marked_pids
from shared.runtime.loops import cancel
from tests.support.build.service import eventually

MARK = "SLIPWAY_TEST_TOOL"
pytestmark = pytest.mark.anyio


async def run(folder: Path, script: str, timeout_s: float = 20) -> str:
    return await answer(["sh", "-c", script], folder, {"PATH": os.environ["PATH"], MARK: str(folder)}, timeout_s)


async def test_what_it_prints_is_its_answer(tmp_path: Path) -> None:
    assert await run(tmp_path, "pwd; printf '\\377'; echo no >&2") == f"{tmp_path}\n�"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo half; exit 3", "did not run to its end"),
        ("kill -9 $$", "did not run to its end"),
        ("sleep 60 & sleep 60", "took longer than 1 s"),
        ("head -c 1G /dev/zero", "answer is larger than 32 MB"),
        (f"head -c {LARGEST_ANSWER_BYTES} /dev/zero; exit 0", "answer is larger than 32 MB"),
        ("python -c 'bytearray(3 * 2**30)'", "did not run to its end"),
    ],
)
async def test_no_answer_has_a_reason_and_nothing_goes_on(tmp_path: Path, script: str, reason: str) -> None:
    with pytest.raises(ToolFailed, match=reason):
        await run(tmp_path, script, timeout_s=1 if "sleep" in script else 20)
    eventually(lambda: marked_pids(MARK, str(tmp_path)) == [])


async def test_one_that_ends_well_leaves_nothing_that_goes_on(tmp_path: Path) -> None:
    assert await run(tmp_path, "sleep 60 >/dev/null & echo done") == "done\n"
    eventually(lambda: marked_pids(MARK, str(tmp_path)) == [])


async def test_many_tools_take_no_thread_and_are_ended_when_nobody_waits_for_them_any_more(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    tools = [asyncio.create_task(run(tmp_path, "sleep 60 & exec sleep 60")) for _ in range(4)]
    while len(marked_pids(MARK, str(tmp_path))) < 8:
        await asyncio.sleep(0.02)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "answered"), 5) == "answered"
    await cancel(tools)
    eventually(lambda: marked_pids(MARK, str(tmp_path)) == [])


async def test_a_tool_that_is_not_there_has_a_reason_too(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="could not be started"):
        await run(tmp_path / "none", "true")
