"""Webhooks through a whole build service: a forge with a password, a real Redis, a stub of the deployer."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.build.git.remote_source import Forge
from tests.support.build.outside import FORGE_TOKEN, OutsideDeveloper, OutsideForge
from tests.support.build.service import BuildService, Developer, eventually
from tests.support.build.webhooks import SECRET, Call, call

pytestmark = pytest.mark.slow

APP = "notes"
MANIFEST = f"app: {APP}\nsteps:\n- {{name: hello, commands: ['true']}}\nrun: {{command: python app.py}}\n"
AT_A_TIME = 16


@pytest.fixture
def build_settings() -> dict[str, str]:
    return {"SLIPWAY_ALLOW_ADDRESSES": "127.0.0.0/8"}


def has_source(service: BuildService, forge: OutsideForge) -> None:
    source = {"forge": "gitea", "url": forge.url(), "api_url": forge.api()}
    secrets = {"token": FORGE_TOKEN, "webhook_secret": SECRET}
    service.http.post("/apps", json={"name": APP, "source": {**source, **secrets}}).raise_for_status()


def send(service: BuildService, what: Call) -> httpx.Response:
    url = f"{service.url}/webhooks/gitea/{APP}"
    return httpx.post(url, headers=what.headers, content=what.body, trust_env=False, timeout=30)


def as_bytes(what: Call) -> bytes:
    """The whole request."""
    headers = {"host": "build", "content-length": str(len(what.body)), **what.headers}
    lines = [f"POST /webhooks/gitea/{APP} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + what.body


def deliveries(service: BuildService) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] | None = {}
    while cursor is not None:
        page = service.http.get(f"/apps/{APP}/deliveries", params=cursor).json()
        items += page["items"]
        cursor = {"cursor": page["next"]} if page["next"] else None
    return items


def notes_1_is_queued(service: BuildService) -> bool:
    """Returns True if the only delivery has led to build notes-1."""
    return [(each["state"], each["builds"]) for each in deliveries(service)] == [("queued", ["notes-1"])]


def everything_in(database: Any) -> str:
    """Returns the whole content of Redis as text."""
    dump = []
    for key in database.keys("*"):
        read = {
            "hash": database.hgetall,
            "string": database.get,
            "set": database.smembers,
            "zset": lambda name: database.zrange(name, 0, -1),
            "stream": database.xrange,
        }[database.type(key)]
        dump.append(f"{key} {read(key)}")
    return "\n".join(dump)


def test_a_push_to_the_forge_goes_live_and_the_forge_is_told(
    service: BuildService, forge: OutsideForge, developer: OutsideDeveloper, database: Any
) -> None:
    has_source(service, forge)
    commit = developer.push(**{"slipway.yml": MANIFEST})
    push = call(Forge.GITEA, commit=commit)
    answer = send(service, push)
    assert (answer.status_code, answer.json()["state"]) == (202, "received")
    build = service.ended("notes-1")
    assert (build["state"], build["commit"], build["branch"]) == ("success", commit, "release")
    assert [asked for _, asked in service.deployer.asked] == ["notes-1"]
    # The build may end before the delivery that asked for it is noted as queued.
    eventually(lambda: notes_1_is_queued(service), 10)
    (delivery,) = deliveries(service)

    def told() -> dict[str, str]:
        return {body["context"]: body["state"] for _, body in forge.statuses}

    stages = {f"slipway/{stage}" for stage in ("build", "test", "analysis", "deploy")}
    eventually(lambda: told() == dict.fromkeys(stages, "success"), 10)
    path, body = forge.statuses[-1]
    assert path == f"/api/v1/repos/git/notes/statuses/{commit}"
    assert body["target_url"] == f"{service.url}/builds/notes-1"
    assert send(service, push).json()["known"] is True
    again = service.http.post(f"/apps/{APP}/deliveries/{delivery['id']}/redeliver")
    assert again.status_code == 202
    eventually(lambda: deliveries(service)[0]["state"] == "fetched", 10)
    assert len(service.http.get(f"/apps/{APP}/builds").json()["items"]) == 1
    kept = "\n".join(path.read_text(errors="replace") for path in service.home.rglob("*") if path.is_file())
    for secret in (FORGE_TOKEN, SECRET):
        assert secret not in kept + everything_in(database)


def test_a_delivery_that_was_answered_survives_the_service(
    service: BuildService, forge: OutsideForge, developer: OutsideDeveloper
) -> None:
    developer.push(branch="other")
    has_source(service, forge)
    eventually(lambda: forge.runs > 0, 10)  # that of the new source
    forge.hangs = True
    commit = developer.push(**{"slipway.yml": MANIFEST})
    assert send(service, call(Forge.GITEA, commit=commit)).status_code == 202
    service.kill()
    forge.hangs = False
    service.start()
    assert service.ended("notes-1")["commit"] == commit
    eventually(lambda: notes_1_is_queued(service), 10)


def test_the_service_ends_while_a_forge_hangs(
    service: BuildService, forge: OutsideForge, developer: OutsideDeveloper
) -> None:
    developer.push()
    forge.hangs = True
    has_source(service, forge)
    eventually(lambda: len(forge.asked) > 0, 10)
    started = time.monotonic()
    service.process.terminate()
    service.process.wait(20)
    assert time.monotonic() - started < 10
    forge.hangs = False
    service.start()


def test_garbage_is_answered_by_its_code(
    service: BuildService, forge: OutsideForge, developer: OutsideDeveloper
) -> None:
    has_source(service, forge)
    good = call(Forge.GITEA)
    garbage = b"\x00\xff" * (25 * 2**19)
    for headers, body, status in (
        (good.headers, garbage, 401),
        ({}, garbage, 401),
        (call(Forge.GITEA, secret="wrong").headers, good.body, 401),
        (good.headers, garbage + b"x", 413),
        (good.headers, garbage * 2, 413),
        ({"content-type": "application/json"}, good.body, 401),
    ):
        assert send(service, Call(headers, body)).status_code == status
    assert deliveries(service) == []


@pytest.mark.anyio
async def test_a_burst_of_a_thousand(
    service: BuildService, forge: OutsideForge, developer: OutsideDeveloper, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        developer.push()
    commit = developer.push(**{"slipway.yml": MANIFEST})
    has_source(service, forge)
    calls = [call(Forge.GITEA, commit=commit, delivery=f"d-{number}") for number in range(1, 1000)]
    calls.append(call(Forge.GITEA, commit=commit, delivery="d-1000"))
    requests = iter([as_bytes(each) for each in calls])
    took_s: list[float] = []
    statuses: list[int] = []

    async def sender() -> None:
        """A lean one: the client shares the processors with what it measures."""
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        for request in requests:
            started = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
            took_s.append(time.perf_counter() - started)
            statuses.append(int(head.split()[1]))
        writer.close()

    began = time.monotonic()
    await asyncio.gather(*(sender() for _ in range(AT_A_TIME)))
    burst_s = time.monotonic() - began
    await asyncio.to_thread(eventually, lambda: all(each["state"] != "received" for each in deliveries(service)), 30)
    done_s = time.monotonic() - began
    took_ms = sorted(1000 * each for each in took_s)
    with capsys.disabled():
        figures = f"p50 {took_ms[499]:.1f} ms, p99 {took_ms[989]:.1f} ms, at most {took_ms[-1]:.1f} ms"
        print(f"\n1000 deliveries, {AT_A_TIME} at a time, in {burst_s:.1f} s: {figures}; git ran {forge.runs} times")  # noqa: T201
    assert statuses == [202] * 1000
    assert forge.runs <= 2 + done_s + 2  # one look a second, and one fetch of what is new
    newest = deliveries(service)
    assert (len(newest), {each["state"] for each in newest} <= {"queued", "fetched"}) == (200, True)
    builds = service.http.get(f"/apps/{APP}/builds").json()["items"]
    assert [(each["id"], each["commit"]) for each in builds] == [("notes-1", commit)]
    again = await asyncio.to_thread(send, service, calls[0])  # its record is gone, its id is remembered
    assert (again.status_code, again.json()["known"]) == (200, True)


def test_a_pusher_is_told_that_a_commit_is_skipped(service: BuildService, tmp_path: Path) -> None:
    pusher = Developer(tmp_path / "pusher", service, APP)
    pusher.commit({"slipway.yml": MANIFEST})
    commit = pusher.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--amend", "-qm", "x [ci skip]")
    commit = pusher.git("rev-parse", "HEAD").strip()
    shown = pusher.push()
    assert f"release: the message of {commit[:10]} says [CI SKIP]; nothing is built" in shown
    time.sleep(3.5)  # `reconcile` has looked once more
    assert service.http.get(f"/apps/{APP}/builds").json()["items"] == []
    build = service.http.post(f"/apps/{APP}/builds", json={"branch": "release"}).json()
    assert service.ended(build["id"])["state"] == "success"
