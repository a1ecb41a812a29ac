"""Pipes are read whole, by either loop, and each descriptor is closed once."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from services.build.system.command import drained, piped, start, wait_for_exit
from services.build.system.pipe import PipeEnd
from services.build.system.stop import Stop

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    factory: Callable[[], asyncio.AbstractEventLoop] = request.param
    return factory


def test_what_is_written_is_read_whole_and_then_the_end(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def read() -> bytes:
        read_end, write_end = os.pipe()
        data = bytes(range(256)) * 4096
        writing = threading.Thread(target=_write_all, args=(write_end, data))
        writing.start()
        pipe, found = PipeEnd(read_end), b""
        while chunk := await pipe.read():
            found += chunk
        writing.join()
        assert await pipe.read() == b""
        os.close(read_end)
        return found

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(read()) == bytes(range(256)) * 4096


def test_what_was_printed_so_far_can_be_waited_for(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The wait for the output so far keeps the order of later output, and the end of the pipe loses nothing."""

    async def run() -> list[bytes]:
        told: list[bytes] = []
        async with piped(told.append) as end:
            await asyncio.sleep(0)  # it is being read
            os.write(end, b"first ")
            await drained(end)
            os.write(end, b"x" * 100_000)
            await drained(end)
            told.append(b" then ")
            os.write(end, b"y" * 100_000)
        return told

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert b"".join(runner.run(run())) == b"first " + b"x" * 100_000 + b" then " + b"y" * 100_000


@pytest.mark.slow
def test_a_programs_pipe_costs_nobody_else_a_descriptor(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    """While programs come and go, others open and close files: none of those may be closed under their hands."""
    over, faults = threading.Event(), []

    def open_and_close() -> None:
        while not over.is_set():
            try:
                for end in os.pipe():
                    os.close(end)
            except OSError as error:
                faults.append(error)

    async def run(number: int) -> bytes:
        printed = b""

        def output(data: bytes) -> None:
            nonlocal printed
            printed += data

        async with piped(output) as end:
            process = start(["sh", "-c", f"echo {number}"], tmp_path, {"PATH": os.environ["PATH"]}, end)
            assert await wait_for_exit(process, sys.maxsize, 60, Stop()) == ""
        return printed

    async def run_many() -> list[bytes]:
        return [each for _ in range(25) for each in await asyncio.gather(*map(run, range(4)))]

    others = [threading.Thread(target=open_and_close) for _ in range(4)]
    for thread in others:
        thread.start()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            printed = runner.run(run_many())
    finally:
        over.set()
        for thread in others:
            thread.join()
    assert faults == []
    assert printed == [f"{number}\n".encode() for _ in range(25) for number in range(4)]


def _write_all(end: int, data: bytes) -> None:
    while data:
        data = data[os.write(end, data) :]
    os.close(end)
