"""A deployer that dies, comes back, or only seems to be away because Redis is: with real sockets and real seconds."""

import json
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.store import connect
from tests.support.proxy.proxy_stack import OwnRedis, Stack, running_stack, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PAGE = "/apps/notes/rollout"
NOTIFY = ["mailto://team@example.com"]


async def state(stack: Stack) -> str:
    return str((await stack.api.get(PAGE)).json()["state"])


async def test_a_silent_deployer_pauses_over_restarts_and_an_answering_one_resumes(stack: Stack, redis: Redis) -> None:
    async with stack.service():
        await stack.with_canary(100, notify=NOTIFY)
        await stack.api.post(f"{PAGE}/promote", json={"release": "notes-r2"})  # it waits, and is not lost
        stack.deployer.close()

        async def paused() -> bool:
            return await state(stack) == "paused"

        await until(paused, 15)
        view = (await stack.api.get(PAGE)).json()
        assert view["reason"].startswith("the deployer does not answer")
        async with stack.visitor() as http:
            assert (await http.get("/")).text == "canary"  # visitors keep what they have
    async with stack.service():
        assert (await stack.api.get(PAGE)).json() == view
        stack.restart_deployer()
        stack.deployer.add("notes-r2", "canary", "notes-7", "live")

        async def progressing() -> bool:
            return await state(stack) == "progressing"

        await until(progressing, 10)
        ask = ("/apps/notes/environments/production/releases", {"build": "notes-7"})
        await until(lambda: ask in stack.deployer.calls)

        async def event_stored() -> bool:
            stream: Any = await redis.xrange("events")
            events = [json.loads(fields["event"]) for _, fields in stream]
            assert all((event["notify"], event["weight"]) == (NOTIFY, 100) for event in events)
            return [event["type"] for event in events] == [
                "rollout.progressing",
                "rollout.paused",
                "rollout.progressing",
            ]

        await until(event_stored)


async def test_the_outage_of_redis_is_not_the_deployers(tmp_path: Path) -> None:
    own = OwnRedis(tmp_path)
    redis = connect(own.url)
    try:
        with running_stack(tmp_path, own.url, redis) as stack:
            async with stack.service():
                await stack.with_canary(100)
                own.kill()
                probes = stack.deployer.health_probes
                await until(lambda: stack.deployer.health_probes >= probes + 6, 30)  # more questions than silence takes
                view = (await stack.api.get(PAGE)).json()
                assert (view["state"], view["reason"]) == ("progressing", "the canary is ready")
    finally:
        own.kill()
        await redis.aclose()
