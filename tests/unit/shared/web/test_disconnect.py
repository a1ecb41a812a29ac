"""Work whose client has gone is dropped, over a real socket."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel

from shared.web.disconnect import while_connected

pytestmark = pytest.mark.anyio

WAIT_S = 10


class Body(BaseModel):
    text: str


class Work:
    """Ends when it is let go; `begun` and `dropped` are set by what becomes of it."""

    def __init__(self) -> None:
        self.begun, self.dropped, self.let_go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self, text: str) -> str:
        self.begun.set()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.dropped.set()
            raise
        return text


@contextlib.asynccontextmanager
async def served(work: Work) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()

    @app.post("/", response_model=str)
    async def post(request: Request, body: Body) -> Any:
        return await while_connected(request, work.run(body.text))

    @app.get("/", response_model=str)
    async def get(request: Request) -> Any:
        return await while_connected(request, work.run("got"))

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(verify=False, base_url=url, trust_env=False) as client:
            yield client
        server.should_exit = True
        await asyncio.wait_for(serving, WAIT_S)


def call(client: httpx.AsyncClient, method: str) -> asyncio.Task[httpx.Response]:
    body = {"text": "posted"} if method == "POST" else None
    return asyncio.create_task(client.request(method, "/", json=body, timeout=WAIT_S))


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_work_ends_when_its_client_disconnects(method: str) -> None:
    work = Work()
    async with served(work) as client:
        asked = call(client, method)
        await asyncio.wait_for(work.begun.wait(), WAIT_S)

        asked.cancel()

        await asyncio.wait_for(work.dropped.wait(), WAIT_S)


@pytest.mark.parametrize(("method", "answer"), [("GET", "got"), ("POST", "posted")])
async def test_a_client_that_waits_is_answered(method: str, answer: str) -> None:
    work = Work()
    async with served(work) as client:
        asked = call(client, method)
        await asyncio.wait_for(work.begun.wait(), WAIT_S)
        await asyncio.sleep(0.05)

        work.let_go.set()

        assert (await asked).json() == answer
    assert not work.dropped.is_set()
