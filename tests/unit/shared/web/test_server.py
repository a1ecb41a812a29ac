"""The server wakes seldom, and ends at once at a signal."""

import asyncio
import signal
import socket

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from shared.web.server import QuietServer

pytestmark = pytest.mark.anyio

WAIT_S = 10
NEVER_S = 3600


async def test_it_answers_with_the_date_and_ends_at_a_signal_without_waiting_for_its_tick() -> None:
    app = FastAPI()

    @app.get("/")
    async def get() -> str:
        return "got"

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = QuietServer(uvicorn.Config(app, log_config=None, lifespan="off"), tick_s=NEVER_S)
        serving = asyncio.create_task(server._serve([listener]))
        async with httpx.AsyncClient(verify=False, trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=WAIT_S)
        assert (answer.json(), "date" in answer.headers) == ("got", True)
        assert not serving.done()

        server.handle_exit(signal.SIGTERM, None)
        await asyncio.wait_for(serving, WAIT_S)


async def test_it_ends_when_the_clock_of_the_machine_was_set() -> None:
    steps = iter([0.0, 3600.0, 3600.0])
    server = QuietServer(
        uvicorn.Config(FastAPI(), log_config=None, lifespan="off"),
        tick_s=0.01,
        step_s=lambda: next(steps),
        end=lambda: server.handle_exit(signal.SIGTERM, None),
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        await asyncio.wait_for(server._serve([listener]), WAIT_S)
    assert next(steps) == 3600.0, "it asked twice"
