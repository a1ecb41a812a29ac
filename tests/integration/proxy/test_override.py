"""The header `x-canary` of a rollout that has an override key, through a real Envoy."""

import httpx
import pytest
from redis.asyncio import Redis

from services.proxy.envoy.access_log import ACCESS_LOG
from tests.support.proxy.proxy_stack import Stack, until
from tests.support.proxy.raw_app import RawApp, change_rollout, raw_apps, route

pytestmark = pytest.mark.anyio

KEY = "open-sesame"


async def test_only_the_rollouts_key_gets_the_canary_and_is_told_nowhere(
    stack: Stack, http: httpx.AsyncClient, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    stable, canary = RawApp("stable"), RawApp("canary")
    async with raw_apps(stable, canary):
        async with stack.service():
            await route(stack, [stable], [canary], weight=0)
            assert (await http.get("/", headers={"x-canary": "always"})).text == "canary"
        change_rollout(stack, override_key=KEY)
        async with stack.service():
            await stack.sync()
            answers = {
                value: (await http.get("/", headers={"x-canary": value})).text for value in ("always", KEY, "never")
            }
            assert answers == {"always": "stable", KEY: "canary", "never": "stable"}
            await stack.api.put("/apps/notes/rollout", json={"weight": 100})
            answers = {
                value: (await http.get("/", headers={"x-canary": value})).text for value in ("always", KEY, "never")
            }
            assert answers == {"always": "canary", KEY: "canary", "never": "stable"}
            envoy = stack.settings.home / "envoy"
            await until(lambda: (envoy / ACCESS_LOG).read_text().count("\n") == 7)
            assert (await stack.api.post("/apps/notes/rollout/abort", json={"release": "notes-r2"})).status_code == 200
            told = [
                (await stack.api.get(path, headers={"accept": accept})).text
                for path in ("/apps/notes/rollout", "/apps/notes/rollouts", "/traffic", "/metrics", "/")
                for accept in ("application/json", "text/html")
            ]
            assert all(told) and not [text for text in told if KEY in text]

            async def stored() -> bool:
                return "aborted" in str(await redis.get("proxy:route:notes"))

            await until(stored)
            kept = (await redis.xrange("events"), await redis.get("proxy:route:notes"))
            assert KEY not in f"{kept}{caplog.text}"
        holders = [
            path for path in stack.settings.home.rglob("*") if path.is_file() and KEY in path.read_text("latin-1")
        ]
        assert holders == []  # the rollout has ended


async def test_while_the_rollout_is_open_the_key_is_in_files_of_their_owner_alone_and_in_redis_encrypted(
    stack: Stack, redis: Redis
) -> None:
    stable, canary = RawApp("stable"), RawApp("canary")
    async with raw_apps(stable, canary):
        async with stack.service():
            await route(stack, [stable], [canary])
        change_rollout(stack, override_key=KEY)
        async with stack.service():
            await stack.api.put("/apps/notes/rollout", json={"weight": 10})

            async def stored() -> bool:
                return '"weight":10' in str(await redis.get("proxy:route:notes"))

            await until(stored)
            assert KEY not in str(await redis.get("proxy:route:notes"))
            files = [path for path in stack.settings.home.rglob("*") if path.is_file()]
            holders = {path.name: path.stat().st_mode & 0o777 for path in files if KEY in path.read_text("latin-1")}
            assert holders == {"notes.json": 0o600, "rds-public.json": 0o600}
