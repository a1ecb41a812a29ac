"""Rollouts through a real Envoy: open, abort, promote; with Redis, the deployer or the service itself away."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from shared.models import Track
from shared.store import connect
from tests.support.proxy.proxy_stack import OwnRedis, Stack, running_stack, until

pytestmark = pytest.mark.anyio

ALWAYS = {"x-canary": "always"}
ABORT = {"release": "notes-r2", "reason": "errors above 1 %"}


async def assert_canary_unreachable(stack: Stack, http: httpx.AsyncClient) -> None:
    """Asserts that the canary gets no request by its share, the header, a visitor's cookie, or its own port."""
    for number in range(20):
        assert (await http.get("/")).text == "stable"
        assert (await http.get("/", headers={"cookie": f"slipway-notes=notes-r2.{number}"})).text == "stable"
        assert (await http.get("/", headers=ALWAYS)).text == "stable"
        http.cookies.clear()
    assert (await http.get(stack.url("canary"))).status_code == 503


async def events(redis: Redis, kind: str = "rollout.") -> list[tuple[str, str, str]]:
    stream: Any = await redis.xrange("events")
    entries = [json.loads(fields["event"]) for _, fields in stream]
    return [(event["type"], event["id"], event["reason"]) for event in entries if event["type"].startswith(kind)]


def xds(stack: Stack) -> dict[str, int]:
    """File → inode: a file that was written again is another one."""
    folder = stack.settings.home / "envoy"
    return {path.name: path.stat().st_ino for path in (*folder.glob("*ds*.json"), *folder.glob("eds/*"))}


async def test_abort_takes_the_canary_out_of_every_route_for_good(
    stack: Stack, http: httpx.AsyncClient, redis: Redis
) -> None:
    async with stack.service():
        await stack.with_canary(100)
        assert (await http.get("/", headers={"cookie": "slipway-notes=notes-r2.1"})).text == "canary"
        answer = await stack.api.post("/apps/notes/rollout/abort", json=ABORT)
        assert answer.status_code == 200
        assert {key: answer.json()[key] for key in ("state", "reason")} == {
            "state": "aborted",
            "reason": "errors above 1 %",
        }
        await assert_canary_unreachable(stack, http)
        repeated = await stack.api.post("/apps/notes/rollout/abort", json=ABORT)
        assert (repeated.status_code, repeated.json()) == (200, answer.json())
        for method, path, body in (
            ("POST", "/apps/notes/rollout", {"release": "notes-r2"}),
            ("POST", "/apps/notes/rollout/resume", ABORT),
            ("POST", "/apps/notes/rollout/promote", ABORT),
        ):
            assert (await stack.api.request(method, path, json=body)).status_code == 409
        assert (await stack.sync())["instances"]["notes-r2-canary"]["route"] == "absent"
        expected = [("/releases/notes-r2/retire", {"state": "rolled_back", "reason": "errors above 1 %"})]
        await until(lambda: stack.deployer.calls == expected)
        ended = [("rollout.progressing", "notes-r2", "the canary is ready"), ("rollout.aborted", *ABORT.values())]

        async def event_stored() -> bool:
            return await events(redis) == ended

        await until(event_stored)
    assert (stack.settings.home / "envoy" / "aborted").read_text() == "notes-r2 errors above 1 %\n"


async def test_an_action_on_another_release_is_refused(stack: Stack) -> None:
    async with stack.service():
        await stack.with_canary(50)
        for action in ("abort", "resume", "promote"):
            answer = await stack.api.post(f"/apps/notes/rollout/{action}", json={"release": "notes-r1"})
            assert answer.status_code == 409
            assert answer.json()["detail"].endswith("which is notes-r2")
        assert (await stack.api.get("/apps/notes/rollout")).json()["state"] == "progressing"
        assert (await stack.api.get("/apps/shop/rollout")).status_code == 404


async def test_a_newer_release_supersedes_the_older_rollout(
    stack: Stack, http: httpx.AsyncClient, redis: Redis
) -> None:
    async with stack.service():
        await stack.with_canary(100)
        again = await stack.api.post("/apps/notes/rollout", json={"release": "notes-r2", "weight": 5})
        assert again.json()["weight"] == 100
        await stack.put(stack.app("newer"), release="notes-r3", track=Track.CANARY)
        await stack.sync()
        opened = await stack.api.post("/apps/notes/rollout", json={"release": "notes-r3", "weight": 100})
        assert (opened.json()["release"], opened.json()["state"]) == ("notes-r3", "progressing")
        assert {(await http.get("/")).text for _ in range(10)} == {"newer"}
        late = await stack.api.post("/apps/notes/rollout", json={"release": "notes-r2"})
        assert late.status_code == 409
        call = ("/releases/notes-r2/retire", {"state": "retired", "reason": "superseded"})
        await until(lambda: stack.deployer.calls == [call])

        async def event_stored() -> bool:
            return ("rollout.aborted", "notes-r2", "superseded") in await events(redis)

        await until(event_stored)


async def test_each_step_has_envoys_share_when_it_is_answered_and_the_last_one_promotes(
    stack: Stack, http: httpx.AsyncClient, redis: Redis
) -> None:
    stack.deployer.add("notes-r2", "canary", "notes-7", "live")
    steps = [{"weight": 0, "for": "10s"}, {"weight": 100, "for": "10s"}, {"weight": 0, "pause": True}]
    verdict = {"result": "pass", "score": 97, "reason": "harm is ruled out", "at": "2026-01-01T00:00:00Z"}

    async def answers() -> set[str]:
        http.cookies.clear()
        return {(await http.get("/")).text for _ in range(10)}

    async def advance(step: int) -> dict[str, Any]:
        body = {"release": "notes-r2", "step": step, "verdict": verdict}
        answer = await stack.api.post("/apps/notes/rollout/advance", json=body)
        assert answer.status_code == 200, answer.text
        view: dict[str, Any] = answer.json()
        return view

    async with stack.service():
        await stack.with_instances()
        body = {"release": "notes-r2", "canary": {"steps": steps, "promote": "automatic"}}
        assert (await stack.api.post("/apps/notes/rollout", json=body)).json()["steps"][0]["for"] == 10
        assert await answers() == {"stable"}
        assert (await advance(0))["weight"] == 100
        assert await answers() == {"canary"}
    async with stack.service():  # killed here, it goes on at this step
        assert (await advance(0))["step"] == 1
        assert await answers() == {"canary"}
        view = await advance(1)
        assert (view["state"], view["step"], view["weight"]) == ("paused", 2, 0)
        assert await answers() == {"stable"}
        resumed = await stack.api.post("/apps/notes/rollout/resume", json={"release": "notes-r2", "step": 2})
        assert (resumed.json()["state"], resumed.json()["step"]) == ("progressing", 3)
        ask = ("/apps/notes/environments/production/releases", {"build": "notes-7"})
        await until(lambda: stack.deployer.calls == [ask])
        stack.deployer.releases["notes-r10"] |= {"state": "live"}

        steps_of_the_way = ["rollout.progressing"] * 3 + ["rollout.paused", "rollout.progressing", "rollout.promoted"]

        async def promoted() -> bool:
            return [kind for kind, _, _ in await events(redis)] == steps_of_the_way

        await until(promoted)


async def test_promotion_makes_the_build_production_and_retires_the_canary(
    stack: Stack, http: httpx.AsyncClient
) -> None:
    stack.deployer.add("notes-r2", "canary", "notes-7", "live")
    async with stack.service():
        await stack.with_canary(100)
        answer = await stack.api.post("/apps/notes/rollout/promote", json={"release": "notes-r2"})
        assert (answer.status_code, answer.json()["state"]) == (202, "progressing")
        ask = ("/apps/notes/environments/production/releases", {"build": "notes-7"})
        await until(lambda: stack.deployer.calls == [ask])
    async with stack.service():  # restarted in the middle: it follows the release that it had asked for
        stack.deployer.releases["notes-r10"] |= {"state": "live"}
        retire = ("/releases/notes-r2/retire", {"state": "retired", "reason": "promoted as notes-r10"})
        await until(lambda: stack.deployer.calls == [ask, retire])
        assert (await stack.api.get("/apps/notes/rollout")).json()["state"] == "promoted"
        assert {(await http.get("/")).text for _ in range(10)} == {"stable"}


async def test_a_promotion_that_fails_pauses_the_rollout_and_resume_goes_on(stack: Stack) -> None:
    stack.deployer.add("notes-r2", "canary", "notes-7", "live")
    async with stack.service():
        await stack.with_canary(100)
        await stack.api.post("/apps/notes/rollout/promote", json={"release": "notes-r2"})
        await until(lambda: "notes-r10" in stack.deployer.releases)
        stack.deployer.releases["notes-r10"] |= {"state": "failed", "reason": "not ready in time"}

        async def paused() -> bool:
            return bool((await stack.api.get("/apps/notes/rollout")).json()["state"] == "paused")

        await until(paused)
        view = (await stack.api.get("/apps/notes/rollout")).json()
        assert view["reason"] == "promotion failed: notes-r10 failed: not ready in time"
        resumed = await stack.api.post("/apps/notes/rollout/resume", json={"release": "notes-r2"})
        assert (resumed.status_code, resumed.json()["state"]) == (200, "progressing")


async def test_a_rollout_ends_with_its_release(stack: Stack) -> None:
    release = stack.deployer.add("notes-r2", "canary", "notes-7", "live")
    async with stack.service():
        _, canary = await stack.with_canary(100)
        release |= {"state": "rolled_back", "reason": "crashed"}
        await stack.put(canary, "failed", release="notes-r2", track=Track.CANARY)

        async def aborted() -> bool:
            return bool((await stack.api.get("/apps/notes/rollout")).json()["state"] == "aborted")

        await until(aborted)
        assert (await stack.api.get("/apps/notes/rollout")).json()["reason"] == "release rolled_back: crashed"


async def test_a_restart_of_the_service_keeps_everything_and_writes_nothing(
    stack: Stack, http: httpx.AsyncClient
) -> None:
    async with stack.service():
        await stack.with_canary(40)
        before, view = xds(stack), (await stack.api.get("/apps/notes/rollout")).json()
    answer = await http.get("/", headers=ALWAYS)
    assert answer.text == "canary"  # while the service is down
    async with stack.service():
        await stack.sync()
        assert (await stack.api.get("/apps/notes/rollout")).json() == view
        assert xds(stack) == before


async def test_envoy_is_killed_and_comes_back_with_the_same_routes(stack: Stack, http: httpx.AsyncClient) -> None:
    async with stack.service():
        await stack.with_canary(100)
        stack.kill_envoy()
        answer = await stack.api.put("/apps/notes/rollout", json={"weight": 0})
        assert answer.status_code == 504
        ready = await stack.api.get("/ready")
        assert (ready.status_code, list(ready.json()["problems"])) == (503, ["envoy"])
        stack.start_envoy()
        assert (await stack.sync())["instances"]["notes-r1-stable"]["route"] == "routable"
        assert (await http.get("/")).text == "stable"
        assert (await http.get("/", headers=ALWAYS)).text == "canary"


async def test_traffic_is_counted_by_who_answered_and_over_departures(stack: Stack, http: httpx.AsyncClient) -> None:
    async def traffic() -> dict[str, Any]:
        answer: dict[str, Any] = (await stack.api.get("/apps/notes/traffic")).json()
        return answer

    async with stack.service():
        stable, _ = await stack.with_canary(50)
        second = stack.app("stable-2")
        await stack.put(second)
        await stack.sync()
        epoch = (await traffic())["epoch"]
        for header, count in (("always", 10), ("never", 30)):
            for _ in range(count):
                await http.get("/", headers={"x-canary": header})
        await stack.put(second, "draining")
        await stack.sync()

        async def counted() -> bool:
            tracks = (await traffic())["tracks"]
            return [tracks[name]["requests"] for name in ("stable", "canary")] == [30, 10]

        await until(counted)

        async def timed() -> bool:
            tracks = (await traffic())["tracks"]
            return [tracks[name]["latency"]["counts"][-1] for name in ("stable", "canary")] == [30, 10]

        await until(timed)
        figures = await traffic()
        assert (figures["epoch"], figures["share_set"], figures["share_seen"]) == (epoch, 0.5, 0.25)
        assert figures["tracks"]["canary"]["release"] == "notes-r2"
        metrics = (await stack.api.get("/metrics")).text
        assert 'slipway_requests{app="notes",release="notes-r2",track="canary"} 10.0' in metrics
        await stack.put(stack.app("stable-3"), release="notes-r3")
        await stack.put(stable, "draining")
        await stack.sync()
        after = await traffic()
        assert after["epoch"] != epoch
        assert after["tracks"]["stable"]["requests"] == 0


async def test_an_abort_needs_neither_redis_nor_a_service_that_had_it(tmp_path: Path) -> None:
    own = OwnRedis(tmp_path)
    redis = connect(own.url)
    try:
        with running_stack(tmp_path, own.url, redis) as stack:
            async with stack.visitor() as http:
                async with stack.service():
                    await stack.with_canary(100)
                own.kill()
                async with stack.service():  # started without Redis
                    answer = await stack.api.post("/apps/notes/rollout/abort", json=ABORT)
                    assert (answer.status_code, answer.json()["state"]) == (200, "aborted")
                    await assert_canary_unreachable(stack, http)
                    synced = await stack.api.post("/apps/notes/sync", json={"hosts": []})
                    assert synced.status_code == 503
                    await until(lambda: len(stack.deployer.calls) == 1)
                    assert (await http.get("/")).text == "stable"
                    own.start()

                    async def event_stored() -> bool:
                        return ("rollout.aborted", *ABORT.values()) in await events(redis)

                    await until(event_stored, 10)
                    assert (await stack.sync())["instances"]["notes-r2-canary"]["route"] == "absent"
                    await assert_canary_unreachable(stack, http)
    finally:
        own.kill()
        await redis.aclose()


async def test_the_file_of_aborted_releases_outranks_what_was_stored(stack: Stack, http: httpx.AsyncClient) -> None:
    async with stack.service():
        await stack.with_canary(100)
    # As if the service had been killed right after its first step of an abort.
    (stack.settings.home / "envoy" / "aborted").write_text("notes-r2 errors above 1 %\n")
    async with stack.service():
        view = (await stack.api.get("/apps/notes/rollout")).json()
        assert (view["state"], view["reason"]) == ("aborted", "errors above 1 %")
        await stack.sync()
        await assert_canary_unreachable(stack, http)
