"""Webhooks through the API; nothing is fetched here."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.build.api.webhooks import webhooks_router
from services.build.builds.app import App, new_app
from services.build.builds.build_store import BuildStore
from services.build.config import Settings
from services.build.forges.delivery import WebhookDeliveryState, became
from services.build.forges.delivery_store import DeliveryStore
from services.build.forges.webhook import LARGEST_BYTES
from services.build.forges.webhook_handler import WebhookHandler
from services.build.git.remote_source import Forge, Source
from shared.security.vault import Vault
from tests.support.build.api import AUTHORIZED, TOKEN, client_of
from tests.support.build.builds import AT
from tests.support.build.webhooks import SECRET, Call, call, headers
from tests.support.paging import refused, walked
from tests.unit.build.forges.test_delivery import delivery

pytestmark = pytest.mark.anyio
FORGES = list(Forge)


class World:
    def __init__(self, folder: Path, redis: Redis) -> None:
        self.store, self.deliveries = BuildStore(redis), DeliveryStore(redis)
        self.vault = Vault(folder / "key", "trial")
        self.woken = 0
        handler = WebhookHandler(self.store, self.deliveries, self.vault, wake=self._wake, now=lambda: AT)
        self.router = webhooks_router(self.store, self.deliveries, handler)
        self.http: httpx.AsyncClient

    def _wake(self, app: str) -> None:
        assert app == "notes"
        self.woken += 1

    async def has_app(self, forge: Forge, secret: str = SECRET) -> None:
        sealed = self.vault.seal(secret) if secret else ""
        source = Source(forge=forge, url="https://forge.example/octo/notes.git", webhook_secret=sealed)
        await self.put(new_app("notes", AT).model_copy(update={"source": source}))

    async def put(self, app: App) -> None:
        await self.store.put_app(app)

    async def send(self, forge: Forge, what: Call, app: str = "notes") -> httpx.Response:
        return await self.http.post(f"/webhooks/{forge}/{app}", headers=what.headers, content=what.body)

    async def listed(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.http.get("/apps/notes/deliveries", headers=AUTHORIZED)).json()[
            "items"
        ]
        return items


@pytest.fixture
async def world(redis: Redis, tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, redis)
    settings = Settings(home=tmp_path, token=TOKEN)
    async with client_of([world.router], settings, redis, headers={}) as world.http:
        yield world


@pytest.mark.parametrize("forge", FORGES)
async def test_a_push_is_received_at_once_and_a_replay_changes_nothing(world: World, forge: Forge) -> None:
    await world.has_app(forge)
    first = await world.send(forge, call(forge))
    assert (first.status_code, first.json()["state"], first.json()["id"]) == (202, "received", "notes-d1")
    again = await world.send(forge, call(forge))
    assert (again.status_code, again.json()["id"], again.json()["known"]) == (200, "notes-d1", True)
    assert again.json()["reason"] == "known already"
    (only,) = await world.listed()
    assert {**only, "asked_at": None, "received_at": None} == {
        "id": "notes-d1",
        "app": "notes",
        "forge": forge,
        "forge_id": "d-1",
        "event": "Push Hook" if forge is Forge.GITLAB else "push",
        "branch": "release",
        "commit": "2" * 40,
        "before": "4" * 40 if forge is Forge.GITLAB else "1" * 40,
        "received_at": None,
        "asked_at": None,
        "state": "received",
        "reason": "",
        "builds": [],
        "tries": 0,
    }
    assert world.woken > 0


def unsigned(what: Call) -> Call:
    signatures = ("x-hub-signature-256", "x-gitea-signature", "x-gitlab-token")
    return Call({name: value for name, value in what.headers.items() if name not in signatures}, what.body)


@pytest.mark.parametrize("forge", FORGES)
async def test_whoever_may_not_call_is_not_told_why(
    world: World, forge: Forge, caplog: pytest.LogCaptureFixture
) -> None:
    await world.has_app(forge)
    other = FORGES[FORGES.index(forge) - 1]
    refused = {
        "its signature is not right": [
            await world.send(forge, call(forge, secret="wrong")),
            await world.send(forge, unsigned(call(forge))),
            await world.send(forge, Call(call(forge, secret="").headers, b"x" * 2**20)),
        ],
        "there is no such app": [await world.send(forge, call(forge), app="nobody")],
        f"the app's source is not of {other}": [await world.send(other, call(other))],
    }
    await world.has_app(forge, secret="")
    refused["the app's source has no webhook_secret"] = [await world.send(forge, call(forge, secret=""))]
    await world.put(new_app("notes", AT))
    refused[f"the app's source is not of {forge}"] = [await world.send(forge, call(forge))]
    answers = [answer for several in refused.values() for answer in several]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    for why in refused:
        assert why in caplog.text
    assert SECRET not in caplog.text
    assert await world.deliveries.deliveries("notes") == []


async def test_a_secret_that_cannot_be_opened_lets_nobody_in(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await world.has_app(Forge.GITHUB)
    sealed = Vault(tmp_path / "another", "trial").seal(SECRET)
    source = Source(forge=Forge.GITHUB, url="https://forge.example/a/b", webhook_secret=sealed)
    await world.put(new_app("notes", AT).model_copy(update={"source": source}))
    assert (await world.send(Forge.GITHUB, call(Forge.GITHUB))).status_code == 401
    assert "source.webhook_secret cannot be read: it was not encrypted with" in caplog.text


@pytest.mark.parametrize("forge", FORGES)
async def test_garbage_that_is_signed_is_told_so(world: World, forge: Forge) -> None:
    await world.has_app(forge)
    answer = await world.send(forge, Call(headers(forge, b"garbage"), b"garbage"))
    assert (answer.status_code, "application/json" in answer.json()["detail"]) == (400, True)
    assert await world.listed() == []


@pytest.mark.parametrize("has_length", [True, False], ids=["with its length", "in chunks"])
async def test_more_than_25_mb_is_refused_while_it_is_read(world: World, has_length: bool) -> None:
    await world.has_app(Forge.GITHUB)
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 2 * LARGEST_BYTES:
            sent += 2**16
            yield b"x" * 2**16

    given = call(Forge.GITHUB).headers | ({"content-length": str(LARGEST_BYTES + 1)} if has_length else {})
    answer = await world.http.post("/webhooks/github/notes", headers=given, content=chunks())
    assert (answer.status_code, "more than 25 MB" in answer.json()["detail"]) == (413, True)
    assert sent <= (0 if has_length else LARGEST_BYTES + 2**16)


@pytest.mark.parametrize("forge", FORGES)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ref": "refs/tags/v1"}, "refs/tags/v1 is not a branch"),
        ({"commit": "0" * 40}, "release is deleted"),
        (
            {"ref": "refs/heads/feature"},
            "feature is not mapped to an environment; nothing to build (mapped: dev, release)",
        ),
        ({"message": "x [skip ci]"}, "the message of 2222222222 says [CI SKIP]"),
        ({"event": "issues"}, "issues is not a push of a branch"),
    ],
)
async def test_what_is_nothing_to_do_is_answered_and_kept(
    world: World, forge: Forge, changes: dict[str, str], reason: str
) -> None:
    await world.has_app(forge)
    answer = await world.send(forge, call(forge, **changes))
    assert (answer.status_code, answer.json()["state"]) == (200, "ignored")
    assert answer.json()["reason"].startswith(reason)
    assert [(item["state"], item["reason"]) for item in await world.listed()] == [("ignored", answer.json()["reason"])]
    assert world.woken == 0


async def test_a_push_of_many_commits_is_received(world: World) -> None:
    await world.has_app(Forge.GITHUB)
    commits = [{"id": f"{number:040x}", "message": "m" * 3000} for number in range(2048)]
    answer = await world.send(Forge.GITHUB, call(Forge.GITHUB, commits=commits))
    assert (answer.status_code, answer.json()["state"]) == (202, "received")
    assert [(item["branch"], item["commit"]) for item in await world.listed()] == [("release", "2" * 40)]


async def test_a_ping_is_well(world: World) -> None:
    await world.has_app(Forge.GITHUB)
    body = b'{"zen": "Keep it logically awesome.", "hook_id": 1}'
    answer = await world.send(Forge.GITHUB, Call(headers(Forge.GITHUB, body, event="ping"), body))
    assert (answer.status_code, answer.json()["reason"]) == (200, "a ping; the webhook works")


async def test_a_delivery_can_be_run_again(world: World) -> None:
    await world.has_app(Forge.GITHUB)
    await world.send(Forge.GITHUB, call(Forge.GITHUB, message="x [skip ci]"))
    await world.send(Forge.GITHUB, call(Forge.GITHUB, ref="refs/tags/v1", delivery="d-2"))
    url = "/apps/notes/deliveries/{}/redeliver"
    assert (await world.http.post(url.format("notes-d1"))).status_code == 401
    again = await world.http.post(url.format("notes-d1"), headers=AUTHORIZED)
    assert (again.status_code, again.json()["state"], world.woken) == (202, "received", 1)
    tag = await world.http.post(url.format("notes-d2"), headers=AUTHORIZED)
    assert (tag.status_code, "nothing to run again: refs/tags/v1" in tag.json()["detail"]) == (409, True)
    for unknown in ("notes-d9", "1", "other-d1", "notes-d"):
        assert (await world.http.post(url.format(unknown), headers=AUTHORIZED)).status_code == 404, unknown


async def test_a_delivery_that_failed_may_come_again_from_the_forge(world: World) -> None:
    await world.has_app(Forge.GITHUB)
    await world.send(Forge.GITHUB, call(Forge.GITHUB))
    stored = await world.deliveries.delivery("notes", "notes-d1")
    await world.deliveries.save([became(stored, WebhookDeliveryState.FAILED, "no luck")])
    woken = world.woken
    again = await world.send(Forge.GITHUB, call(Forge.GITHUB))
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (202, "notes-d1", "received")
    assert (await world.deliveries.apps_waiting(), world.woken > woken) == ({"notes"}, True)


async def test_only_the_webhook_is_public(world: World) -> None:
    assert (await world.http.get("/apps/notes/deliveries")).status_code == 401
    assert (await world.http.get("/apps/notes/deliveries", headers=AUTHORIZED)).status_code == 404
    assert (await world.http.post("/webhooks/cvs/notes", content=b"")).status_code == 422
    assert (await world.http.get("/webhooks/github/notes")).status_code == 405


async def test_a_refusal_is_one_line_of_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    await world.send(Forge.GITHUB, call(Forge.GITHUB), app="a%0Ab" + "c" * 500)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line and len(line) < 200


async def test_deliveries_are_paged_also_while_some_come(world: World) -> None:
    await world.has_app(Forge.GITHUB)
    for number in range(5):
        await world.deliveries.add(delivery(forge_id=f"d-{number}"))
    world.http.headers.update(AUTHORIZED)

    async def come() -> None:
        for number in range(5, 8):
            await world.deliveries.add(delivery(forge_id=f"d-{number}"))

    path = "/apps/notes/deliveries"
    found = [item["id"] for item in await walked(world.http, path, meanwhile=come)]
    assert found == [f"notes-d{number}" for number in (5, 4, 3, 2, 1)]
    assert await refused(world.http, path, limit="1000", cursor="notes-d3") == {"limit", "cursor"}
