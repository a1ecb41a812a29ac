"""Every app made by `create_app` has health, readiness, errors, token check, metrics and pages."""

import asyncio
import errno
import re
import socket
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from shared.config import SharedSettings
from shared.errors import Invalid
from shared.registry import Registry
from shared.store import connect
from shared.web.app import create_app
from shared.web.server import serve

pytestmark = pytest.mark.anyio


class Body(BaseModel):
    secret: int


def make(tmp_path: Path, redis: Redis) -> tuple[FastAPI, httpx.AsyncClient]:
    router = APIRouter()

    @router.post("/things")
    async def things(body: Body) -> None:
        raise Invalid("gates.coverage", "must be at most 100")

    @router.get("/down")
    async def down() -> None:
        raise ConnectionError("refused")

    @router.get("/bug")
    async def bug() -> None:
        raise RuntimeError("the password is hunter2")

    @router.get("/short/{code}")
    async def short(code: int) -> None:
        raise OSError(code, "hunter2")

    async def unwell() -> str:
        return "Envoy does not answer"

    async def close() -> str:
        return "400 of 412 instances; raise the limit"

    async def fine() -> None:
        return None

    settings = SharedSettings.model_validate({"home": tmp_path, "token": "t"})
    app = create_app(
        "build",
        settings,
        Registry(redis),
        description="Trial.",
        routers=[router],
        checks={"envoy": unwell},
        warnings={"open files": close, "inotify": fine},
        public=r"/badge\.svg",
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": "Bearer t"}
    return app, httpx.AsyncClient(transport=transport, base_url="http://build.test", headers=headers)


async def test_errors_are_problems_that_name_the_field_and_keep_secrets(tmp_path: Path, redis: Redis) -> None:
    _, client = make(tmp_path, redis)
    async with client:
        cases = {
            (await client.post("/things", json={"secret": 1})).text: (422, "gates.coverage"),
            (await client.post("/things", json={"secret": "hunter2"})).text: (422, "secret"),
            (await client.get("/down")).text: (503, "Redis does not answer"),
            (await client.get("/bug")).text: (500, "request"),
            (await client.get(f"/short/{errno.ENOSPC}")).text: (507, "the disk is full"),
            (await client.get(f"/short/{errno.EMFILE}")).text: (503, "ulimit -n"),
            (await client.get(f"/short/{errno.ENOENT}")).text: (500, "request"),
            (await client.get("/nowhere")).text: (404, "/nowhere"),
            (await client.get("/things")).text: (405, "GET"),
        }
    for text, (status, words) in cases.items():
        assert f'"status":{status}' in text
        assert words in text
        assert "hunter2" not in text


async def test_ready_names_what_is_not_well_while_health_says_the_process_lives(tmp_path: Path, redis: Redis) -> None:
    _, client = make(tmp_path, redis)
    async with client:
        ready = await client.get("/ready")
        health = await client.get("/health", headers={"Authorization": ""})
    assert (ready.status_code, ready.json()["problems"]) == (503, {"envoy": "Envoy does not answer"})
    assert ready.json()["warnings"] == {"open files": "400 of 412 instances; raise the limit"}
    assert (health.status_code, health.json()["status"]) == (200, "ok")


async def test_every_operation_wants_the_token_but_the_public_ones(tmp_path: Path, redis: Redis) -> None:
    app, client = make(tmp_path, redis)
    public = {
        path for path, ops in app.openapi()["paths"].items() if all(op.get("security") == [] for op in ops.values())
    }
    assert public == {"/health"}
    async with client:
        for path, operations in app.openapi()["paths"].items():
            for method in operations:
                answer = await client.request(method, path, headers={"Authorization": "Bearer wrong"}, content=b"{")
                assert (answer.status_code == 401) == (path not in public), path


async def test_a_request_id_is_kept_if_harmless_and_made_if_not(tmp_path: Path, redis: Redis) -> None:
    _, client = make(tmp_path, redis)
    async with client:
        kept = await client.get("/health", headers={"X-Request-Id": "abc-1"})
        made = await client.get("/health", headers={"X-Request-Id": "a b<script>"})
    assert kept.headers["x-request-id"] == "abc-1"
    assert made.headers["x-request-id"] != "a b<script>"


async def test_every_answer_has_the_headers_that_protect_a_page(tmp_path: Path, redis: Redis) -> None:
    _, client = make(tmp_path, redis)
    async with client:
        answers = [await client.get(path) for path in ("/health", "/bug", "/nowhere", "/docs", "/static/docs.js")]
        answers.append(await client.get("/ready", headers={"Authorization": "Bearer wrong"}))
    for answer in answers:
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert (policy["script-src"], policy["default-src"]) == ("'self'", "'none'")
        assert (policy["frame-ancestors"], policy["form-action"]) == ("'none'", "'self'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
    stored = {answer.headers.get("cache-control") for answer in answers if "etag" not in answer.headers}
    assert stored == {"no-store"}


def test_no_page_needs_a_script_that_stands_in_the_page() -> None:
    root = Path(__file__).parents[4]
    pages = [*root.glob("services/**/*.html"), *root.glob("shared/**/*.html")]
    inline = re.compile(r"<script(?![^>]*\ssrc=)|\son\w+=|javascript:|hx-on|hx-trigger=\"[^\"]*\[")
    assert len(pages) > 10
    assert [(page.name, found[0]) for page in pages if (found := inline.search(page.read_text()))] == []


async def test_docs_and_their_files_are_served_from_here(tmp_path: Path, redis: Redis) -> None:
    _, client = make(tmp_path, redis)
    client.headers.pop("Authorization")
    async with client:
        page = await client.get("/docs")
        script = await client.get("/static/vendor/swagger-ui/swagger-ui-bundle.js")
        escape = await client.get("/static/..%2f..%2fconfig.py")
    assert "//cdn" not in page.text
    assert (page.status_code, script.status_code) == (200, 200)
    assert escape.status_code == 404


async def test_a_service_that_has_ended_holds_no_connection_to_redis(
    tmp_path: Path, redis: Redis, redis_socket: Path
) -> None:
    own = connect(f"unix://{redis_socket}?db=0")
    before = {client["id"] for client in await redis.client_list()}
    settings = SharedSettings.model_validate({"home": tmp_path, "token": "t"})
    app = create_app("build", settings, Registry(own), description="Trial.", routers=[], resources=lambda: own)
    async with app.router.lifespan_context(app), asyncio.timeout(10):
        while not await Registry(redis).services():
            await asyncio.sleep(0.01)
        by_socket = [client for client in await redis.client_list() if str(redis_socket) in client["addr"]]
        assert {client["id"] for client in by_socket} - before, "the service has connections of its own"
    assert await Registry(redis).services() == [], "it has withdrawn"
    by_socket = [client for client in await redis.client_list() if str(redis_socket) in client["addr"]]
    assert {client["id"] for client in by_socket} <= before, "what other tests left open was there before"


def test_a_service_whose_port_is_taken_says_by_whom_and_which_setting_moves_it(tmp_path: Path, redis: Redis) -> None:
    app, _ = make(tmp_path, redis)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        settings = SharedSettings.model_validate({"home": tmp_path, "build_port": port})
        with pytest.raises(SystemExit) as ended:
            serve(app, settings, "build")
    message = str(ended.value)
    assert message.startswith(f"port {port} cannot be had: Address already in use: ")
    assert message.endswith("listens on it; end that, or set SLIPWAY_BUILD_PORT to another port")
