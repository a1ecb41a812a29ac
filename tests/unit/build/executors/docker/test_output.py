"""The output of a container is extracted from the engine's stream."""

import asyncio
import socket
import threading

import pytest

from services.build.executors.docker.output import Frames, read_to_end, threadsafe


def frame(data: bytes) -> bytes:
    return b"\1\0\0\0" + len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize("size", [1, 3, 8, 9, 1000])
def test_frames_may_be_cut_anywhere(size: int) -> None:
    printed = [b"one\n", b"", b"two\n" * 100, b"\1\0\0\0\0\0\0\7"]
    stream, frames = b"".join(map(frame, printed)), Frames()
    found = [frames.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    assert b"".join(found) == b"".join(printed)


def test_all_is_told_in_order_in_the_loops_own_thread() -> None:
    here, there = socket.socketpair()
    printed = [f"{number}\n".encode() * 50 for number in range(2000)]
    told: list[tuple[bytes, int]] = []

    def engine() -> None:
        with there:
            there.sendall(b"".join(map(frame, printed)))

    async def run() -> int:
        say = threadsafe(asyncio.get_running_loop(), lambda data: told.append((data, threading.get_ident())))
        writing = threading.Thread(target=engine)
        writing.start()
        with here:
            await asyncio.to_thread(read_to_end, here, say)
        writing.join()
        return threading.get_ident()

    loop = asyncio.run(run())
    assert b"".join(data for data, _ in told) == b"".join(printed)
    assert {thread for _, thread in told} == {loop}


def test_a_thread_goes_on_only_when_what_it_says_was_told() -> None:
    told: list[bytes] = []

    def say_two(loop: asyncio.AbstractEventLoop) -> list[int]:
        say, seen = threadsafe(loop, told.append), []
        for data in (b"one", b"two"):
            say(data)
            seen.append(len(told))
        return seen

    async def run() -> list[int]:
        return await asyncio.to_thread(say_two, asyncio.get_running_loop())

    assert asyncio.run(run()) == [1, 2]
