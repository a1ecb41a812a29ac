"""Clients of routers of the build service, without a process."""

import contextlib
from collections.abc import AsyncIterator, Sequence

import httpx
from fastapi import APIRouter
from redis.asyncio import Redis

from services.build.api.rest import PUBLIC
from services.build.config import Settings
from shared.registry import Registry
from shared.web.app import create_app

TOKEN = "a-token"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@contextlib.asynccontextmanager
async def client_of(
    routers: Sequence[APIRouter], settings: Settings, redis: Redis, headers: dict[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Yields a client that has the token unless other headers are given."""
    app = create_app("build", settings, Registry(redis), description="", routers=routers, public=PUBLIC)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://build", headers=AUTHORIZED if headers is None else headers
    ) as client:
        yield client
