"""Releases from order to live and out again, on real Redis and real processes."""

import asyncio
import os
import shlex
import signal
import sys
from typing import Any

import pytest
from redis.asyncio import Redis

from services.deployer.config import Settings
from services.deployer.drivers.process.end import stop_instances
from services.deployer.drivers.process.record import InstanceFolder, instances_root
from shared.canary import Canary
from shared.clock import now
from shared.models import Event, Track
from shared.registry import Registry
from tests.support.deployer.deployer_stack import Deployer, Outside, visit

pytestmark = pytest.mark.anyio


async def events(redis: Redis, kind: str) -> list[Event]:
    entries: Any = await redis.xrange("events")
    found = [Event.model_validate_json(fields["event"]) for _, fields in entries]
    return [event for event in found if event.type.startswith(kind)]


async def test_a_release_goes_live_and_its_app_knows_what_it_is(deployer: Deployer, outside: Outside) -> None:
    release = await deployer.release(outside.build(1))
    assert (release["id"], release["state"], release["build"]) == ("notes-r1", "pending", "notes-1")

    await deployer.until("notes-r1", "live")
    [instance] = await deployer.instances("ready")
    assert instance["id"] == "notes-r1-1"
    answer = await visit(instance)
    assert "'SLIPWAY_RELEASE': 'notes-r1'" in answer
    assert f"'SLIPWAY_COMMIT': '{1:040x}'" in answer
    assert "'SLIPWAY_TOKEN': None" in answer and "instances/notes-r1-1/home" in answer
    assert outside.syncs[0] == {"hosts": ["notes.localhost"], "health": "/up", "health_host": "notes.localhost"}


async def test_the_old_instance_is_ended_only_after_the_proxy_let_it_go(
    deployer: Deployer, outside: Outside, redis: Redis
) -> None:
    await deployer.deployed(outside.build(1))
    await deployer.deployed(outside.build(2))
    async with asyncio.timeout(5):
        while "term notes-r1-1" not in outside.seen:
            await asyncio.sleep(0.02)
        while len(await Registry(redis).instances("notes", Track.STABLE)) > 1:
            await asyncio.sleep(0.02)

    order = ["ready notes-r2-1", "draining notes-r1-1", "absent notes-r1-1", "term notes-r1-1"]
    assert outside.order(*order) == order
    old = await deployer.call("GET", "/releases/notes-r1")
    assert (old["state"], old["reason"]) == ("retired", "replaced by notes-r2")
    assert (await deployer.call("GET", "/releases/notes-r2"))["previous"] == "notes-r1"
    types = [(event.type, event.id) for event in await events(redis, "release")]
    assert types[-2:] == [("release.live", "notes-r2"), ("release.retired", "notes-r1")]
    last = (await events(redis, "release"))[-1].model_dump()
    assert last["notify"] == ["mailto://a@b.example"] and last["commit"] == f"{1:040x}"


async def test_what_is_live_already_is_unchanged(deployer: Deployer, outside: Outside) -> None:
    build = outside.build(1)
    await deployer.deployed(build)
    again = await deployer.release(build, status=200)
    assert (again["id"], again["unchanged"]) == ("notes-r1", True)


async def test_a_repeated_order_gets_the_same_release(deployer: Deployer, outside: Outside) -> None:
    build = outside.build(1)
    outside.works = False
    first = await deployer.release(build)
    again = await deployer.release(build)
    assert first["id"] == again["id"] and not again["unchanged"]


async def test_a_build_that_did_not_pass_is_refused(deployer: Deployer, outside: Outside) -> None:
    refused = await deployer.release(outside.build(1, passed=False), status=409)
    assert "has not passed its gates" in refused["detail"]
    refused = await deployer.release(outside.build(2, app="other"), status=409)
    assert "is of app other" in refused["detail"]
    assert (await deployer.call("GET", "/apps/notes/environments/production/releases"))["items"] == []


async def test_a_build_that_skipped_steps_of_production_goes_to_the_canary_alone(
    deployer: Deployer, outside: Outside
) -> None:
    lacking = outside.build(1, promotion_refusal="notes-1 has not run load")
    refused = await deployer.release(lacking, status=409)
    assert refused["detail"] == "notes-1 has not run load"
    canary = await deployer.release(lacking, environment="canary")
    refused = await deployer.call("GET", f"/releases/{canary['id']}/promotion", status=409)
    assert refused["detail"] == "notes-1 has not run load"
    await deployer.deployed(outside.build(2))
    assert (await deployer.release(lacking, status=409))["detail"] == "notes-1 has not run load"

    judged = await deployer.deployed(outside.build(3, commit=outside.builds[lacking]["commit"]))
    assert (await deployer.client.get(f"/releases/{canary['id']}/promotion")).status_code == 204
    promoted = await deployer.release(lacking, status=200)
    assert (promoted["id"], promoted["unchanged"]) == (judged, True), "production runs its commit already"


async def test_an_artifact_that_changed_after_the_gates_is_refused(deployer: Deployer, outside: Outside) -> None:
    build = outside.build(1)
    (outside.artifact(build) / "app.py").write_text("print('something else')")
    refused = await deployer.release(build, status=409)
    assert "not what passed the gates" in refused["detail"]


async def test_a_release_that_does_not_start_says_why_and_leaves_the_old_one(
    deployer: Deployer, outside: Outside, redis: Redis
) -> None:
    await deployer.deployed(outside.build(1))
    faulty = outside.build(2)
    manifest = outside.builds[faulty]["manifest"]
    manifest["run"]["command"] = "echo out of luck; exit 7"
    await deployer.release(faulty)
    failed = await deployer.until("notes-r2", "failed", "live")
    assert failed["state"] == "failed" and "exit code 7" in failed["reason"]
    assert failed["failure"]["exit_code"] == 7 and failed["failure"]["log"] == ["out of luck"]
    [event] = [each.model_dump() for each in await events(redis, "release.failed")]
    assert (event["exit_code"], event["excerpt"], event["build"]) == (7, "out of luck", faulty)
    assert event["notify"] == ["mailto://a@b.example"]

    await deployer.release(outside.build(3, command="503"))
    failed = await deployer.until("notes-r3", "failed", "live")
    said = "GET /up with Host notes.localhost answered 503"
    assert failed["failure"]["probe"] == said
    assert (await events(redis, "release.failed"))[-1].model_dump()["probe"] == said
    assert [instance["id"] for instance in await deployer.instances("ready")] == ["notes-r1-1"]
    assert "term notes-r1-1" not in outside.seen


PICKY = """
import http.server, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.headers["host"] == sys.argv[1] else 400)
        self.send_header("content-length", "0")
        self.end_headers()

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


async def test_an_app_that_answers_its_own_host_only_is_probed_with_it(deployer: Deployer, outside: Outside) -> None:
    own: dict[str, str] = {}
    other = {"health_host": "www.example.com"}
    for number, (host, more) in enumerate((("notes.localhost", own), ("www.example.com", other)), start=1):
        build = outside.build(number)
        command = shlex.join([sys.executable, "-c", PICKY, host])
        outside.builds[build]["manifest"]["run"] = {"command": command, "health": "/up", **more}
        await deployer.deployed(build)
        assert outside.syncs[-1] == {"hosts": ["notes.localhost"], "health": "/up", "health_host": host}


async def test_without_the_proxy_a_release_waits_and_the_old_one_stays(deployer: Deployer, outside: Outside) -> None:
    await deployer.deployed(outside.build(1))
    outside.works = False
    await deployer.release(outside.build(2))
    async with asyncio.timeout(5):
        while "Envoy has not confirmed" not in (waiting := await deployer.call("GET", "/releases/notes-r2"))["reason"]:
            await asyncio.sleep(0.05)
    assert waiting["state"] == "starting"
    assert {instance["id"] for instance in await deployer.instances("ready")} == {"notes-r1-1", "notes-r2-1"}
    outside.works = True
    await deployer.until("notes-r2", "live")


@pytest.mark.slow
async def test_a_crashed_instance_is_started_again(deployer: Deployer, outside: Outside, redis: Redis) -> None:
    await deployer.deployed(outside.build(1))
    await asyncio.sleep(deployer.settings.watch_s)
    [instance] = await deployer.instances("ready")
    with pytest.raises(Exception, match="disconnected"):
        await visit(instance, "/crash")
    async with asyncio.timeout(5):
        while [i["id"] for i in await deployer.instances("ready")] != ["notes-r1-2"]:
            await asyncio.sleep(0.05)
    [stats] = (await deployer.call("GET", "/stats"))["items"]
    assert (stats["id"], stats["restarts"]) == ("notes-r1-2", 1) and stats["working_set"] > 2**20
    crash = next(event for event in await events(redis, "instance.failed"))
    assert (crash.id, crash.reason) == ("notes-r1-1", "it ended with exit code 3")
    assert "crashing on purpose" in (await deployer.client.get("/apps/notes/environments/production/logs")).text


async def test_a_crash_soon_after_going_live_rolls_back(deployer: Deployer, outside: Outside) -> None:
    await deployer.deployed(outside.build(1))
    await deployer.deployed(outside.build(2))
    [instance] = [each for each in await deployer.instances("ready") if each["release"] == "notes-r2"]
    with pytest.raises(Exception, match="disconnected"):
        await visit(instance, "/crash")

    async with asyncio.timeout(5):
        while (await deployer.client.get("/releases/notes-r3")).status_code == 404:
            await asyncio.sleep(0.05)
    assert (await deployer.until("notes-r3", "live"))["build"] == "notes-1"
    faulty = await deployer.until("notes-r2", "rolled_back")
    assert "exit code 3" in faulty["reason"] and faulty["failure"]["exit_code"] == 3
    assert faulty["failure"]["log"][-1] == "crashing on purpose"


@pytest.mark.slow
async def test_failing_health_makes_an_instance_unhealthy(deployer: Deployer, outside: Outside, redis: Redis) -> None:
    await deployer.deployed(outside.build(1))
    [instance] = await deployer.instances("ready")
    await visit(instance, "/ill")
    async with asyncio.timeout(8):
        while not await events(redis, "instance.unhealthy"):
            await asyncio.sleep(0.05)
        while [i["id"] for i in await deployer.instances("ready")] != ["notes-r1-2"]:
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_a_frozen_canary_is_unhealthy_within_4_s(deployer: Deployer, outside: Outside, redis: Redis) -> None:
    await deployer.deployed(outside.build(1), "canary")
    record = InstanceFolder(instances_root(deployer.settings.home) / "notes-r1-1").read()
    assert record is not None and record.pid is not None
    os.killpg(record.pid, signal.SIGSTOP)
    frozen_at = now()
    async with asyncio.timeout(8):
        while not (found := await events(redis, "instance.unhealthy")):
            await asyncio.sleep(0.02)
        while (await Registry(redis).instances("notes", Track.CANARY))[0].state == "ready":
            await asyncio.sleep(0.02)
    assert 2 < (found[0].at - frozen_at).total_seconds() < 4 and (now() - frozen_at).total_seconds() < 4
    assert found[0].reason == "3 probes in a row missed: GET /up: no answer within 0.9 s"
    os.killpg(record.pid, signal.SIGCONT)


async def test_rollback_by_hand(deployer: Deployer, outside: Outside) -> None:
    path = "/apps/notes/environments/production/rollback"
    await deployer.deployed(outside.build(1))
    refused = await deployer.call("POST", path, {}, status=409)
    assert "no earlier release" in refused["detail"]
    await deployer.deployed(outside.build(2))
    back = await deployer.call("POST", path, status=202)
    assert (back["id"], back["build"]) == ("notes-r3", "notes-1")
    await deployer.until("notes-r3", "live")
    await deployer.call("POST", path, {"to": "notes-r2"}, status=202)
    assert (await deployer.until("notes-r4", "live"))["commit"] == f"{2:040x}"


async def test_a_canary_opens_its_rollout_and_is_retired(deployer: Deployer, outside: Outside) -> None:
    await deployer.deployed(outside.build(1), "canary")
    order = ["ready notes-r1-1", "rollout notes-r1 33"]
    assert outside.order(*order) == order
    assert outside.notified == ["mailto://a@b.example"]
    for _ in range(2):
        body = {"state": "rolled_back", "reason": "error rate 12 %"}
        retired = await deployer.call("POST", "/releases/notes-r1/retire", body)
        assert (retired["state"], retired["reason"]) == ("rolled_back", "error rate 12 %")
    async with asyncio.timeout(5):
        while "term notes-r1-1" not in outside.seen:
            await asyncio.sleep(0.02)
    assert outside.order("absent notes-r1-1", "term notes-r1-1") == ["absent notes-r1-1", "term notes-r1-1"]


async def test_a_canary_whose_key_is_not_set_fails_and_with_it_the_proxy_gets_plan_and_key(
    deployer: Deployer, outside: Outside
) -> None:
    canary = {"steps": [{"weight": 5, "for": "2m"}, {"weight": 33, "for": "10m"}], "override": "CANARY_KEY"}
    await deployer.release(outside.build(1, canary=canary), "canary")
    ended = await deployer.until("notes-r1", "failed", "live")
    assert ended["reason"].startswith("canary.override names the secret CANARY_KEY, which is not set")
    assert (ended["state"], outside.opened) == ("failed", [])

    secrets = {"secrets": {"CANARY_KEY": "a-key-of-16-signs"}}
    await deployer.call("PATCH", "/apps/notes/environments/canary", secrets)
    await deployer.deployed(outside.build(2, canary=canary), "canary")
    [request] = outside.opened
    assert (request.weight, request.override_key) == (5, "a-key-of-16-signs")
    assert request.canary == Canary.model_validate(canary)


async def test_a_canary_that_was_aborted_before_it_began_is_rolled_back(deployer: Deployer, outside: Outside) -> None:
    outside.rollout_status = 409
    await deployer.release(outside.build(1), "canary")
    ended = await deployer.until("notes-r1", "rolled_back", "live")
    assert "it was aborted" in ended["reason"] and ended["state"] == "rolled_back"


async def test_a_canary_that_crashes_soon_is_rolled_back_and_its_rollout_aborted(
    deployer: Deployer, outside: Outside
) -> None:
    await deployer.deployed(outside.build(1), "canary")
    [instance] = await deployer.instances("ready", environment="canary")
    with pytest.raises(Exception, match="disconnected"):
        await visit(instance, "/crash")
    assert "exit code 3" in (await deployer.until("notes-r1", "rolled_back"))["reason"]
    async with asyncio.timeout(5):
        while "abort notes-r1" not in outside.seen:
            await asyncio.sleep(0.02)


async def test_production_cannot_be_retired(deployer: Deployer, outside: Outside) -> None:
    await deployer.deployed(outside.build(1))
    refused = await deployer.call("POST", "/releases/notes-r1/retire", {"state": "retired"}, status=409)
    assert "serves production" in refused["detail"]


async def test_scaling_and_variables(deployer: Deployer, outside: Outside) -> None:
    path = "/apps/notes/environments/production"
    await deployer.deployed(outside.build(1))
    refused = await deployer.call("PATCH", path, {"replicas": 9}, status=422)
    assert refused["errors"][0]["field"] == "replicas"
    for memory in ("lots", "1g"):
        refused = await deployer.call("PATCH", path, {"memory": memory}, status=422)
        assert refused["errors"][0]["field"] == "memory"
    await deployer.call("PATCH", path, {"replicas": 2})
    await _ready(deployer, {"notes-r1-1", "notes-r1-2"})
    changed = await deployer.call("PATCH", path, {"replicas": 1, "variables": {"GREETING": "hello"}})
    assert changed["desired"]["variables"] == {"GREETING": "hello"}
    await _ready(deployer, {"notes-r1-3"})
    [instance] = await deployer.instances("ready")
    assert "'GREETING': 'hello'" in await visit(instance)
    # A release inherits what was asked for.
    await deployer.call("PATCH", path, {"replicas": 2})
    await deployer.deployed(outside.build(2))
    assert len([i for i in await deployer.instances("ready") if i["release"] == "notes-r2"]) == 2


async def _ready(deployer: Deployer, ids: set[str]) -> None:
    async with asyncio.timeout(8):
        while {each["id"] for each in await deployer.instances("ready", "draining")} != ids:
            await asyncio.sleep(0.05)


async def test_instances_outlive_the_deployer_which_takes_a_release_up_again(
    settings: Settings, outside: Outside
) -> None:
    async with Deployer(settings) as first:
        await first.deployed(outside.build(1))
        [before] = await first.instances("ready")
        outside.works = False
        await first.release(outside.build(2))
        async with asyncio.timeout(5):
            while len(await first.instances("ready")) < 2:
                await asyncio.sleep(0.02)
    assert "notes-r1" in await visit(before)
    outside.works = True
    async with Deployer(settings) as second:
        live = await second.until("notes-r2", "live")
        assert live["instances_made"] == 1
    assert "term notes-r2-1" not in outside.seen


async def test_after_a_stop_of_the_platform_live_releases_start_again_at_once(
    settings: Settings, outside: Outside, redis: Redis
) -> None:
    async with Deployer(settings) as first:
        await first.deployed(outside.build(1))
    assert await asyncio.to_thread(stop_instances, settings.home, 2.0) == 1
    async with Deployer(settings) as second:
        async with asyncio.timeout(3):
            while [i["id"] for i in await second.instances("ready")] != ["notes-r1-2"]:
                await asyncio.sleep(0.02)
            while len(await Registry(redis).instances("notes", Track.STABLE)) > 1:
                await asyncio.sleep(0.02)
        assert not await events(redis, "instance.failed")
        [stats] = (await second.call("GET", "/stats"))["items"]
        assert stats["restarts"] == 0


async def test_lists_streams_and_the_registry(deployer: Deployer, outside: Outside) -> None:
    path = "/apps/notes/environments/production/releases"
    for number in (1, 2, 3):
        await deployer.deployed(outside.build(number))
    first = await deployer.call("GET", f"{path}?limit=2")
    rest = await deployer.call("GET", f"{path}?limit=2&cursor={first['next']}")
    assert [item["id"] for page in (first, rest) for item in page["items"]] == ["notes-r3", "notes-r2", "notes-r1"]
    assert rest["next"] is None
    for wrong in ("limit=101", "cursor=notes-r1"):
        problem = await deployer.call("GET", f"{path}?{wrong}", status=422)
        assert problem["errors"][0]["field"] == f"query.{wrong.partition('=')[0]}"

    async with deployer.client.stream("GET", "/releases/notes-r1/events") as stream:
        lines = [line async for line in stream.aiter_lines() if line.startswith("data:")]
    assert len(lines) == 1 and '"state":"retired"' in lines[0]
    await deployer.call("GET", "/releases/notes-r9/events", status=404)

    registry = await deployer.call("GET", "/registry")
    assert [entry["name"] for entry in registry["services"]] == ["deployer"]
    assert "notes-r3-1" in [entry["id"] for entry in registry["instances"]["notes"]["stable"]]
    assert (await deployer.call("GET", "/ready"))["ready"] is True


async def test_what_was_never_released_is_not_there(deployer: Deployer) -> None:
    missing = await deployer.call("GET", "/apps/notes/environments/canary", status=404)
    assert missing["detail"] == "nothing was ever released to notes/canary"
    refused = await deployer.call("PATCH", "/apps/notes/environments/canary", {"replicas": 2}, status=409)
    assert "release a build first" in refused["detail"]
    await deployer.call("GET", "/apps/notes/environments/staging", status=422)


async def test_nothing_is_told_without_the_token(deployer: Deployer) -> None:
    for path, operations in (await deployer.call("GET", "/openapi.json"))["paths"].items():
        for method in operations:
            url = path.replace("{app}", "notes").replace("{environment}", "production").replace("{id}", "notes-r1")
            answer = await deployer.client.request(method, url, headers={"Authorization": "Bearer wrong"})
            assert answer.status_code == (200 if path == "/health" else 401), (method, path)
