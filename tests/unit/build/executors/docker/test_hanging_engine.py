"""An engine that hangs holds up calls of the engine only."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.build.executors.docker.executor import DockerExecutor
from services.build.executors.docker.image_builder import ImageBuilder

VERSION = b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 22\r\n\r\n{"ApiVersion": "1.41"}'


@pytest.mark.anyio
async def test_an_engine_that_hangs_holds_up_no_other_work_of_the_service(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    hangs, over = asyncio.Event(), asyncio.Event()

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/version " in await reader.readuntil(b"\r\n\r\n"):
            writer.write(VERSION)
        else:
            hangs.set()
            await over.wait()
        writer.close()

    async with await asyncio.start_unix_server(engine, tmp_path / "engine"):
        variables = {"DOCKER_HOST": f"unix://{tmp_path}/engine"}
        executor = DockerExecutor(variables, ImageBuilder(variables, "trial"), {}, "trial")
        asked = asyncio.gather(*(executor.images() for _ in range(4)))
        await hangs.wait()
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "answered"), 5) == "answered"
        over.set()
        assert await asyncio.wait_for(asked, 20) == [None] * 4
