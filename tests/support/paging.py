"""Walks lists page by page, as a client does."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx


async def walked(
    client: httpx.AsyncClient, path: str, *, limit: int = 2, meanwhile: Callable[[], Awaitable[object]] | None = None
) -> list[dict[str, Any]]:
    """The items of all pages; `meanwhile` is called once, after the first page."""
    items: list[dict[str, Any]] = []
    params: dict[str, str | int] = {"limit": limit}
    while True:
        answer = await client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next"] is None:
            return items
        if meanwhile is not None:
            await meanwhile()
            meanwhile = None
        params["cursor"] = page["next"]


async def refused(client: httpx.AsyncClient, path: str, **params: str) -> set[str]:
    """The parameters that are named as wrong, in an answer 422."""
    answer = await client.get(path, params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    return {fault["field"].removeprefix("query.") for fault in answer.json()["errors"]}
