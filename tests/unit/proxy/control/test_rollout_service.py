"""A rollout keeps the addresses for its messages, the reason of its end, and the measurements."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue
from redis.asyncio import Redis

from services.proxy.envoy.files import envoy_folder
from shared.errors import Conflict
from shared.proxy_models import RolloutState, RolloutView
from shared.store import connect
from tests.support.proxy.access_lines import CANARY, line
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import NOW, endpoint, record, route

pytestmark = pytest.mark.anyio

COMMIT = record("notes-r2-1").commit
CANARY_ONE = endpoint("notes-r2-1", port=20001).model_copy(update={"commit": COMMIT})
ROUTE = route(endpoint("notes-r1-1"), canary=(CANARY_ONE,))
NOTIFY = ["mailto://a@example.com"]
MEASURED: dict[str, JsonValue] = {"rule": "errors", "value": 0.4, "threshold": 0.05}
OTHER: dict[str, JsonValue] = {"rule": "health"}


@pytest.fixture
def plane(tmp_path: Path, redis: Redis) -> Plane:
    return Plane(tmp_path, redis, ROUTE)


async def opened(plane: Plane, release: str = "notes-r2", weight: int = 40) -> RolloutView:
    return await plane.rollouts.open("notes", release, weight, NOTIFY)


def count_visitors(plane: Plane, stable: int, canary: int, errors: int) -> None:
    """Counts so many requests, each of which took 2 ms; of the canary's, so many were errors."""
    lines = [line()] * stable + [line(CANARY)] * (canary - errors) + [line(CANARY, status="500")] * errors
    plane.counts.add(lines, plane.control.routes)


async def test_an_abort_keeps_what_was_measured_and_the_traffic_of_the_last_reading(plane: Plane) -> None:
    await opened(plane)
    count_visitors(plane, 30, 10, 4)
    plane.now += timedelta(seconds=61.5)
    view = await plane.rollouts.abort("notes", "notes-r2", "errors: 40 %", MEASURED)
    assert view.at == plane.now
    evidence: dict[str, Any] = {
        **MEASURED,
        "ran_s": 61.5,
        "traffic": {
            "epoch": "epoch",
            "share_set": 0.4,
            "share_seen": 0.25,
            "weight": 40,
            "tracks": {
                "stable": {
                    "release": "notes-r1",
                    "requests": 30,
                    "errors": 0,
                    "p50_ms": 1.9,
                    "p95_ms": 2.0,
                    "p99_ms": 2.0,
                },
                "canary": {
                    "release": "notes-r2",
                    "requests": 10,
                    "errors": 4,
                    "p50_ms": 1.9,
                    "p95_ms": 2.0,
                    "p99_ms": 2.0,
                },
            },
        },
    }
    assert view.evidence == evidence
    event = (await plane.events())[-1].model_dump(mode="json", exclude={"app", "at", "id", "reason"})
    assert event == {
        "type": "rollout.aborted",
        "notify": NOTIFY,
        "release": "notes-r2",
        "environment": "canary",
        "commit": COMMIT,
        "weight": 40,
        "evidence": evidence,
    }


async def test_an_abort_gives_envoy_the_endpoints_before_the_routes_which_take_it_long(plane: Plane) -> None:
    await opened(plane)
    before = plane.versions_seen[-1]
    plane.versions_seen.clear()

    await plane.rollouts.abort("notes", "notes-r2", "errors", MEASURED)

    written = [{name for name, version in seen.items() if before[name] != version} for seen in plane.versions_seen]
    assert written == [{"eds/notes.canary.json"}, {"eds/notes.canary.json", "rds-canary.json", "rds-public.json"}]


async def test_the_routes_of_an_abort_do_not_wait_for_an_envoy_that_is_away(plane: Plane) -> None:
    await opened(plane)
    plane.envoy_is_away = True

    await plane.control.cut_off("notes", "errors", MEASURED)

    assert "notes/split" not in (envoy_folder(plane.settings) / "rds-public.json").read_text()


async def test_a_repeated_abort_keeps_the_first_evidence(plane: Plane) -> None:
    await opened(plane)
    first = await plane.rollouts.abort("notes", "notes-r2", "errors", MEASURED)
    plane.now += timedelta(seconds=5)
    assert await plane.rollouts.abort("notes", "notes-r2", "other", OTHER) == first


async def test_evidence_needs_no_redis_and_outlives_a_restart(tmp_path: Path) -> None:
    away = connect("redis://127.0.0.1:1/0")
    plane = Plane(tmp_path, away, ROUTE)
    await opened(plane)
    await plane.rollouts.abort("notes", "notes-r2", "errors", MEASURED)
    kept = plane.rollouts.view("notes")
    plane.start()
    assert plane.rollouts.view("notes") == kept
    assert kept.evidence["rule"] == "errors"
    await away.aclose()


@pytest.mark.parametrize("reason", ["", "half a pair \ud800"])
async def test_an_abort_by_hand_has_the_traffic_alone(plane: Plane, reason: str) -> None:
    await opened(plane)
    view = await plane.rollouts.abort("notes", "notes-r2", reason, {})
    assert view.evidence.keys() == {"traffic", "ran_s"}
    assert view.reason == (reason.replace("\ud800", "?") or "aborted by hand")


async def test_a_newer_release_makes_the_older_rollout_an_earlier_one_with_why_it_ended(plane: Plane) -> None:
    await opened(plane)
    await plane.rollouts.abort("notes", "notes-r2", "errors", MEASURED)
    await opened(plane, "notes-r3")
    await opened(plane, "notes-r3")
    await opened(plane, "notes-r4")
    plane.start()
    earlier = plane.rollouts.earlier("notes")
    assert [(one.release, one.state, one.reason) for one in earlier] == [
        ("notes-r3", RolloutState.ABORTED, "superseded"),
        ("notes-r2", RolloutState.ABORTED, "errors"),
    ]
    assert earlier[1].evidence["rule"] == "errors"
    assert plane.rollouts.view("notes").release == "notes-r4"


async def test_a_promotion_keeps_its_traffic_too(plane: Plane) -> None:
    await opened(plane)
    await plane.rollouts.promote("notes", "notes-r2")
    release: dict[str, Any] = {"app": "notes", "build": "notes-7", "commit": COMMIT, "created_at": NOW.isoformat()}
    canary = {**release, "id": "notes-r2", "environment": "canary", "state": "live"}
    production = {**release, "id": "notes-r9", "environment": "production", "state": "live"}
    plane.deployer["GET /releases/notes-r2"] = (200, canary)
    plane.deployer["GET /apps/notes/environments/production/releases"] = (200, {"items": [production]})
    await plane.deployer_tasks.step()
    view = plane.rollouts.view("notes")
    assert (view.state, view.reason) == (RolloutState.PROMOTED, "promoted as notes-r9")
    assert view.evidence.keys() == {"traffic", "ran_s"}


async def test_a_promotion_that_would_skip_steps_of_production_is_refused_at_once(plane: Plane) -> None:
    await opened(plane)
    refusal = "notes-7 has not run steps that production asks for: load"
    plane.deployer["GET /releases/notes-r2/promotion"] = (409, {"detail": refusal})
    with pytest.raises(Conflict, match=refusal):
        await plane.rollouts.promote("notes", "notes-r2")
    rollout = plane.control.route("notes").rollout
    assert rollout is not None and (rollout.state, rollout.promotion) == (RolloutState.PROGRESSING, None)
    plane.deployer["GET /releases/notes-r2/promotion"] = (503, {"detail": "build does not answer"})
    await plane.rollouts.promote("notes", "notes-r2")
    rollout = plane.control.route("notes").rollout
    assert rollout is not None and rollout.promotion is not None, "the deployer looks again when it releases the build"
