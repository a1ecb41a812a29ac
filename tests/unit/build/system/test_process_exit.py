"""Waiting for programs: however many run, neither time-outs nor other work of the service wait for a thread."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvloop

from services.build.system.command import start, terminate, wait_for_exit
from services.build.system.process_exit import exit_code
from services.build.system.stop import Stop

Runner = Callable[[Coroutine[Any, Any, None]], None]
MANY = 8  # more than the default pool has threads on two cores


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Runner:
    chosen: Runner = request.param
    return chosen


def program(folder: Path, script: str) -> "subprocess.Popen[bytes]":
    return start(["sh", "-c", script], folder, os.environ, subprocess.DEVNULL)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", -signal.SIGTERM)])
def test_gives_the_exit_code(run: Runner, tmp_path: Path, script: str, code: int) -> None:
    async def act() -> None:
        process = program(tmp_path, f"sleep 0.05; {script}")
        assert await exit_code(process) == code
        assert await exit_code(process) == code  # also of one that was collected

    run(act())


def test_many_programs_are_waited_for_and_the_pool_of_threads_stays_free(run: Runner, tmp_path: Path) -> None:
    async def act() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        processes, stop = [program(tmp_path, "sleep 60") for _ in range(MANY)], Stop()
        files = open_files()
        try:
            waits = asyncio.gather(*(wait_for_exit(each, time.monotonic() + 60, 60, stop) for each in processes))
            await asyncio.sleep(0.05)
            assert await asyncio.wait_for(asyncio.to_thread(lambda: "answered"), 5) == "answered"
            stop.set()
            assert await asyncio.wait_for(waits, 5) == ["was stopped"] * MANY
            await asyncio.sleep(0)
            assert open_files() <= files + 2  # the pool's own wake-up
        finally:
            for each in processes:
                await terminate(each)

    run(act())


def test_programs_that_overrun_are_given_up_together(run: Runner, tmp_path: Path) -> None:
    async def act() -> None:
        processes, begun = [program(tmp_path, "sleep 60") for _ in range(MANY)], time.monotonic()
        try:
            waits = asyncio.gather(*(wait_for_exit(each, begun + 0.3, 0.3, Stop()) for each in processes))
            assert await asyncio.wait_for(waits, 5) == ["took longer than its time-out of 0.3 s"] * MANY
        finally:
            for each in processes:
                await terminate(each)

    run(act())


def test_a_program_that_is_slow_to_end_holds_up_nobody(run: Runner, tmp_path: Path) -> None:
    async def act() -> None:
        process, order = program(tmp_path, "trap '' TERM; touch deaf; while :; do sleep 0.05; done"), []
        while not (tmp_path / "deaf").exists():
            await asyncio.sleep(0.01)

        async def other_work() -> None:
            for _ in range(5):
                await asyncio.sleep(0.02)
            order.append("other work")

        async def ending() -> None:
            await terminate(process)
            order.append(f"ended by {-process.returncode}")

        await asyncio.gather(ending(), other_work())
        assert order == ["other work", f"ended by {signal.SIGKILL}"]

    run(act())
