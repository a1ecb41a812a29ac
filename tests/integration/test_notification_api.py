"""The whole service beside a mail server: an event in, a mail out; notifiers and silences over REST."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.monitor.config import Settings
from services.monitor.dispatch.outbox_store import OutboxStore
from services.monitor.main import build_app
from stack.clients.mail_sink import MailSink, mail_sink
from tests.support.monitor.notification_stack import fail_a_build, webhook
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def sink() -> Iterator[MailSink]:
    with mail_sink() as sink:
        yield sink


@pytest.fixture
async def http(tmp_path: Path, redis_server: str, redis: Redis, sink: MailSink) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(home=tmp_path, token=SecretStr("token"), redis_url=redis_server, allow_addresses="127.0.0.1")
    settings.notify = sink.url("ops@example.com")
    settings.deployer_port, settings.proxy_port = free_port(), free_port()
    app: Any = build_app(settings)
    headers = {"Authorization": "Bearer token"}
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://monitor", headers=headers) as client,
    ):
        yield client


async def test_an_event_becomes_a_mail_and_a_delivery(http: httpx.AsyncClient, redis: Redis, sink: MailSink) -> None:
    await fail_a_build(redis)
    [mail] = await asyncio.to_thread(sink.wait_for, lambda mails: len(mails) == 1)
    for _ in range(100):
        [delivery] = (await http.get("/deliveries", params={"app": "notes"})).json()["items"]
        if delivery["state"] == "delivered":
            break
        await asyncio.sleep(0.05)
    assert delivery["id"] in mail.text
    assert delivery | {"id": "", "created_at": "", "since": "", "recipient": ""} == {
        **{"id": "", "event": "build.failure", "app": "notes", "environment": "", "subject": mail.subject},
        **{"recipient": "", "state": "delivered", "reason": "", "attempts": 1, "created_at": "", "since": ""},
        "due_at": None,
    }
    assert (await http.get("/deliveries", params={"state": "failed"})).json() == {"items": [], "next": None}
    assert (await http.get("/deliveries", params={"state": "lost"})).status_code == 422


async def test_the_end_of_the_service_waits_for_what_is_being_sent(
    tmp_path: Path, redis_server: str, redis: Redis
) -> None:
    with webhook(slow_s=0.7) as (hook, requests):
        app: Any = build_app(Settings(home=tmp_path, token=SecretStr("token"), redis_url=redis_server, notify=hook))
        async with app.router.lifespan_context(app):
            await fail_a_build(redis)
            while not requests:
                await asyncio.sleep(0.02)
    assert [each.state for each in await OutboxStore(redis).deliveries()] == ["delivered"]


async def test_notifiers_are_set_tested_and_kept_without_showing_secrets(
    http: httpx.AsyncClient, sink: MailSink
) -> None:
    url = sink.url("team@example.com") + "&+X-Token=s3cret-t0ken"
    put = await http.put("/notifiers", json={"items": [{"name": "team", "url": url, "events": ["build.*"]}]})
    assert put.status_code == 200 and "s3cret" not in put.text
    assert put.json() == (await http.get("/notifiers")).json()
    assert [(item["name"], item["read_only"]) for item in put.json()["items"]] == [
        ("platform-1", True),
        ("team", False),
    ]
    tested = await http.post("/notifiers/test", json={"name": "team"})
    assert [(each["name"], each["ok"], each["detail"]) for each in tested.json()["items"]] == [("team", True, "")]
    assert [(mail.to, mail.subject) for mail in sink.messages] == [("team@example.com", "Slipway: a test message")]
    sink.stop()
    everyone = (await http.post("/notifiers/test")).json()["items"]
    assert [(each["name"], each["ok"]) for each in everyone] == [("platform-1", False), ("team", False)]
    assert all("Connection refused" in each["detail"] and "s3cret" not in each["detail"] for each in everyone)
    assert (await http.post("/notifiers/test", json={"name": "nobody"})).status_code == 404
    refused = await http.put("/notifiers", json={"items": [{"name": "team", "url": "https://s3cret"}]})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "items.0.url")
    assert "s3cret" not in refused.text


async def test_a_silence_is_made_listed_and_ended(http: httpx.AsyncClient, redis: Redis, sink: MailSink) -> None:
    body = {"app": "notes", "duration_s": 60, "reason": "we know"}
    made = await http.post("/silences", json=body)
    assert made.status_code == 201
    assert (await http.get("/silences")).json()["items"] == [made.json()]
    await fail_a_build(redis)
    for _ in range(100):
        if items := (await http.get("/deliveries", params={"state": "silenced"})).json()["items"]:
            break
        await asyncio.sleep(0.05)
    assert [item["reason"] for item in items] == [f"silence {made.json()['id']}: we know"]
    assert sink.messages == []
    for status in (204, 404):
        assert (await http.delete(f"/silences/{made.json()['id']}")).status_code == status
    assert (await http.get("/silences")).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"duration_s": 60, "reason": "why"}, "body"),
        ({"app": "notes", "reason": "why"}, "body"),
        ({"app": "notes", "until": "2020-01-01T00:00:00Z", "reason": "why"}, "until"),
        ({"app": "notes", "until": "2020-01-01T00:00:00", "reason": "why"}, "until"),
        ({"app": "notes", "duration_s": 60}, "reason"),
        ({"app": "notes", "duration_s": 60, "reason": "why", "rules": "cpu"}, "rules"),
    ],
)
async def test_a_wrong_silence_is_refused(http: httpx.AsyncClient, body: dict[str, Any], field: str) -> None:
    answer = await http.post("/silences", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_every_operation_wants_the_token_and_is_described(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    own = {
        (method, path): operation
        for path, item in paths.items()
        for method, operation in item.items()
        if path.startswith(("/deliveries", "/notifiers", "/silences"))
    }
    assert len(own) == 7
    for (method, path), operation in own.items():
        assert operation["summary"] and operation["description"]
        assert (await http.request(method, path, headers={"Authorization": "Bearer wrong"})).status_code == 401
