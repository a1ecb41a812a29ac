"""The flags service over HTTP with a real Redis, and on any store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr
from redis.asyncio import Redis

from services.flags.cache import FlagCache
from services.flags.config import Settings
from services.flags.main import assemble
from services.flags.store import FlagStore
from shared.registry import Registry
from tests.support.ports import free_port

TOKEN = "platform-token"
SWITCH: dict[str, Any] = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}


def client_of(app: Any, token: str = TOKEN) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://flags", headers={"Authorization": f"Bearer {token}"})


def settings_for(home: Path, redis_url: str) -> Settings:
    return Settings(home=home, token=SecretStr(TOKEN), redis_url=redis_url)


@contextlib.asynccontextmanager
async def running(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The app with its loops, and a client with the platform's token."""
    async with app.router.lifespan_context(app), client_of(app) as client:
        await until_read(client)
        yield client


async def until_read(client: httpx.AsyncClient) -> None:
    """Until the flags are read, just after the start."""
    for _ in range(200):
        if (await client.get("/flags")).status_code == 200:
            return
        await asyncio.sleep(0.01)


async def evaluate(http: httpx.AsyncClient, key: str = "k", **context: Any) -> Any:
    return (await http.post(f"/ofrep/v1/evaluate/flags/{key}", json={"context": context})).json()


def copy_of_the_service(cache: FlagCache, store: FlagStore, redis: Redis) -> Any:
    """Without its loops: it takes over what other copies changed when the test says `refresh()`. It cannot import."""
    settings = Settings(token=SecretStr(TOKEN))
    return assemble(settings, Registry(redis), store, cache, lambda: contextlib.nullcontext(store))


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """The app on a port of its own, with its loops; streams need a real server."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(verify=False, base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        await until_read(client)
    try:
        yield url
    finally:
        server.should_exit = True
        await task
