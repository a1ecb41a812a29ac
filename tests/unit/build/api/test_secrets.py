"""Secrets over the API: set, listed without values, removed."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.build.api.secrets import secrets_router
from services.build.builds.app import new_app
from services.build.builds.build_store import BuildStore
from services.build.config import Settings
from services.build.secrets.secret import opened
from services.build.secrets.secret_store import SecretStore
from shared.security.vault import Vault
from tests.support.build.api import TOKEN, client_of
from tests.support.build.builds import AT
from tests.support.paging import refused, walked

pytestmark = pytest.mark.anyio
PATH = "/apps/notes/secrets"
VALUE = "hunter2-and-more"


@pytest.fixture
def secrets(redis: Redis) -> SecretStore:
    return SecretStore(redis)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "key", "build:secrets")


@pytest.fixture
async def client(secrets: SecretStore, vault: Vault, redis: Redis, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    store = BuildStore(redis)
    await store.add_app(new_app("notes", AT))
    times = iter(AT + timedelta(seconds=passed) for passed in range(100))
    async with client_of(
        [secrets_router(store, secrets, vault, lambda: next(times))], Settings(home=tmp_path, token=TOKEN), redis
    ) as client:
        yield client


async def test_a_secret_is_set_changed_listed_and_removed(
    client: httpx.AsyncClient, secrets: SecretStore, vault: Vault
) -> None:
    assert (await client.get(PATH)).json() == {"items": [], "next": None}
    for name, value in (("TOKEN", "first"), ("ANOTHER", "x"), ("TOKEN", VALUE)):
        answer = await client.put(f"{PATH}/{name}", json={"value": value})
        assert (answer.status_code, answer.content) == (204, b"")
    listed = await client.get(PATH)
    assert listed.json()["items"] == [
        {"name": "ANOTHER", "set_at": "2026-01-01T12:00:01Z"},
        {"name": "TOKEN", "set_at": "2026-01-01T12:00:02Z"},
    ]
    stored = await secrets.all("notes")
    assert opened(stored, vault).values == {"ANOTHER": "x", "TOKEN": VALUE}
    assert VALUE not in str([secret.model_dump() for secret in stored.values()])
    assert (await client.delete(f"{PATH}/TOKEN")).status_code == 204
    gone = await client.delete(f"{PATH}/TOKEN")
    assert (gone.status_code, PATH in gone.json()["detail"]) == (404, True)
    assert list(await secrets.all("notes")) == ["ANOTHER"]


async def test_names_of_secrets_are_paged(client: httpx.AsyncClient) -> None:
    for name in ("_C", "A", "D", "B"):
        assert (await client.put(f"{PATH}/{name}", json={"value": "x"})).status_code == 204
    assert [item["name"] for item in await walked(client, PATH, limit=1)] == ["A", "B", "D", "_C"]
    assert await refused(client, PATH, limit="none", cursor="a b") == {"limit", "cursor"}


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("PATH", {"value": VALUE}, "name"),
        ("CI_X", {"value": VALUE}, "name"),
        ("SLIPWAY_X", {"value": VALUE}, "name"),
        ("1A", {"value": VALUE}, "name"),
        ("A-B", {"value": VALUE}, "name"),
        ("A", {"value": f"{VALUE}\0"}, "value"),
        ("A", {"value": VALUE * 5000}, "value"),
        ("A", {"value": [VALUE]}, "value"),
        ("A", {"value": None}, "value"),
        ("A", {}, "value"),
        ("A", {"value": VALUE, "more": 1}, "more"),
        ("A", VALUE, "body"),
    ],
)
async def test_what_cannot_be_a_secret_is_refused_without_a_word_of_it(
    client: httpx.AsyncClient, secrets: SecretStore, name: str, body: Any, field: str
) -> None:
    answer = await client.put(f"{PATH}/{name}", json=body)
    assert (answer.status_code, await secrets.all("notes")) == (422, {})
    assert answer.json()["errors"][0]["field"] == field
    assert VALUE not in answer.text


async def test_an_app_that_is_not_there_has_no_secrets(client: httpx.AsyncClient, secrets: SecretStore) -> None:
    path = "/apps/other/secrets"
    answers = [
        await client.get(path),
        await client.put(f"{path}/A", json={"value": VALUE}),
        await client.delete(f"{path}/A"),
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert await secrets.all("other") == {}


async def test_all_secrets_of_an_app_have_a_limit(client: httpx.AsyncClient) -> None:
    answers = [await client.put(f"{PATH}/S{number}", json={"value": "x" * 2**16}) for number in range(5)]
    assert [answer.status_code for answer in answers] == [204, 204, 204, 204, 422]
    assert "remove some" in answers[-1].json()["detail"]
