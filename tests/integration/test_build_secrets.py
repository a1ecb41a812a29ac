"""Secrets of an app through whole builds: given to the steps that name them, and told nowhere."""

import asyncio
import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from services.build.builds.build import Build
from shared.models import BuildState
from shared.security.vault import Vault
from tests.support.build.executors import Engine, found_engine
from tests.support.build.platform import Platform, platform_with
from tests.support.build.service import BuildService, Developer, eventually

TOKEN, OTHER = "hunter2-and-more", "another/secret&value"
KEY = "-----BEGIN KEY-----\nMIIBOgIBAAJBAKj34GkxFhD9\n-----END KEY-----\n"
MANIFEST = """app: notes
steps:
- {name: given, commands: [python show.py], secrets: [TOKEN, KEY]}
- {name: other, commands: ['echo "then: $TOKEN$KEY."', 'cat shown']}
- {name: test, stage: test, commands: [python report.py; exit 1], secrets: [TOKEN], reports: {junit: out/junit.xml}}
run: {command: cat app.txt}
"""
# Prints the secrets in many ways, and whether they stand in the command line of any process; keeps them in a file.
SHOW = """
import base64, glob, os, sys, time
token, key = os.environ["TOKEN"], os.environ["KEY"]
print("token:", token, len(token), flush=True)
sys.stdout.write("in two: " + token[:5]); sys.stdout.flush(); time.sleep(0.2); print(token[5:])
print("basic:", base64.b64encode(token.encode()).decode())
print("error:", token, file=sys.stderr)
print(key)
sys.stdout.flush()
sys.stdout.buffer.write(b"binary: \\xff\\x00" + token.encode() + b"\\xfe\\n")
lines = b"".join(open(path, "rb").read() for path in glob.glob("/proc/[0-9]*/cmdline") if os.path.exists(path))
print("in a command line:", token.encode() in lines)
open("shown", "w").write("kept: " + token + " another/secret&value another%2Fsecret%26value")
"""
REPORT = """
import os
from xml.sax.saxutils import quoteattr
os.makedirs("out", exist_ok=True)
said = quoteattr("x" * 150 + " expected " + os.environ["TOKEN"] + ", got another/secret&value")
open("out/junit.xml", "w").write(
    "<testsuite><testcase classname='t' name=" + quoteattr("a[" + os.environ["TOKEN"] + "]") + ">"
    "<failure message=" + said + "/></testcase></testsuite>")
print("AssertionError: expected " + os.environ["TOKEN"])
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield from found_engine()


def files(manifest: str = MANIFEST) -> dict[str, str]:
    return {"slipway.yml": manifest, "show.py": SHOW, "report.py": REPORT, "app.txt": "an app\n"}


async def all_that_is_told(platform: Platform, build: Build, redis: Redis) -> str:
    """The log, and all that a reader of the API, an event, a forge or the next build is shown."""
    history = [await platform.history.runs("notes"), await platform.history.quarantines("notes")]
    sent = [await redis.xrange("events"), await redis.hgetall("build:statuses")]
    return platform.log(build) + f"{build.model_dump_json()} {sent} {history}"


def assert_hidden(text: str) -> None:
    for value in (TOKEN, OTHER, "hunter2", "MIIBOgIBAAJBAKj34GkxFhD9", "BEGIN KEY", "another%2Fsecret"):
        assert value not in text
    assert base64.b64encode(TOKEN.encode()).decode() not in text


@pytest.mark.anyio
async def test_a_step_gets_what_it_names_and_nobody_is_told(everywhere: Platform, redis: Redis) -> None:
    platform = everywhere
    for name, value in (("TOKEN", TOKEN), ("KEY", KEY), ("OTHER", OTHER)):
        await platform.set_secret(name, value)
    build = await platform.build(files())
    assert_hidden(await all_that_is_told(platform, build, redis))
    log = platform.log(build)
    for line in (
        f"token: *** {len(TOKEN)}",
        "in two: ***",
        "basic: ***",
        "error: ***",
        "***\n***\n***\n",
        "binary: \ufffd\ufffd***\ufffd",
        "in a command line: False",
        "then: .",
        "kept: *** *** ***",
        "AssertionError: expected ***",
    ):
        assert f"{line}\n" in log + "\n", line
    assert (build.state, [step.state for step in build.steps]) == (
        BuildState.FAILURE,
        ["success", "success", "failure", "failure"],
    )
    gate = next(gate for gate in build.gates if gate.name == "test_failures")
    assert gate.offenders[0].message.startswith("t::a[***]: xx")
    assert "expected ***, got ***" in gate.offenders[0].message
    assert "AssertionError: expected ***" in build.excerpt


@pytest.mark.anyio
@pytest.mark.docker
async def test_no_image_or_container_that_is_left_has_it(engine: Engine, tmp_path: Path, redis: Redis) -> None:
    platform = await platform_with(engine.executor(), tmp_path, redis)
    await platform.set_secret("TOKEN", TOKEN)
    steps = "steps:\n- {name: given, commands: ['echo ${#TOKEN}'], secrets: [TOKEN]}\n"
    build = await platform.build(files(f"app: notes\n{steps}run: {{command: cat app.txt}}\n"))
    assert build.artifact is not None and f"\n{len(TOKEN)}\n" in platform.log(build)
    image = engine.client.images.get(build.artifact.digest)
    assert TOKEN not in str(image.attrs) + str(image.history())
    assert engine.containers() + engine.volumes(build=build.id) == []


@pytest.mark.anyio
async def test_a_secret_that_is_not_set_fails_the_build_before_its_first_step(platform: Platform) -> None:
    await platform.set_secret("TOKEN", TOKEN)
    build = await platform.build(files())
    assert (build.state, build.steps) == (BuildState.FAILURE, [])
    assert build.reason == (
        "gate manifest: steps.0.secrets.1 (line 3): the step given wants the secret KEY, which is not set; "
        'PUT /apps/notes/secrets/KEY {"value": "…"} sets it'
    )


@pytest.mark.anyio
async def test_a_secret_that_cannot_be_decrypted_is_said_to_those_who_want_it(platform: Platform) -> None:
    for name in ("TOKEN", "KEY"):
        await platform.set_secret(name, TOKEN)
    lost = platform.secrets
    other = Vault(platform.work.parent / "other-key", "build:secrets")
    key = (await lost.all("notes"))["KEY"].model_copy(update={"sealed": other.seal(KEY)})
    await lost.put("notes", "KEY", key)
    build = await platform.build(files())
    assert "wants the secret KEY, which cannot be decrypted with the platform's key; PUT" in build.reason
    unnamed = files("app: notes\nsteps:\n- {name: one, commands: [echo fine]}\nrun: {command: cat app.txt}\n")
    assert (await platform.build(unnamed)).state is BuildState.SUCCESS


@pytest.mark.anyio
async def test_a_build_goes_by_the_values_at_its_start(platform: Platform) -> None:
    """One that changes meanwhile is the next build's; the old one stays hidden, and is what steps are given."""
    await platform.set_secret("TOKEN", TOKEN)
    commands = "['echo begun; until [ -e ../go ]; do sleep 0.05; done; echo \"is $TOKEN.\"']"
    steps = f"steps:\n- {{name: one, commands: {commands}, secrets: [TOKEN]}}\n"
    queued = await platform.queue(files(f"app: notes\n{steps}run: {{command: cat app.txt}}\n"))
    running = asyncio.create_task(platform.run(queued))
    async with asyncio.timeout(30):
        while b"\nbegun" not in platform.context.logs.read(queued.id, 0):
            await asyncio.sleep(0.05)
    await platform.set_secret("TOKEN", "changed-" + TOKEN)
    (platform.context.releases / "notes" / "go").touch()
    build = await running
    assert (build.state, platform.log(build).count("is ***.")) == (BuildState.SUCCESS, 1)
    again = await platform.again(build)
    assert (again.state, platform.log(again).count("is ***.")) == (BuildState.SUCCESS, 1)
    assert_hidden(platform.log(build) + platform.log(again))


@pytest.mark.slow
def test_over_the_api_to_the_pusher_and_gone_with_the_app(service: BuildService, database: Any, tmp_path: Path) -> None:
    http, path = service.http, "/apps/notes/secrets"
    http.post("/apps", json={"name": "notes"}).raise_for_status()
    for name, value in (("TOKEN", TOKEN), ("KEY", KEY), ("OTHER", OTHER)):
        assert http.put(f"{path}/{name}", json={"value": value}).status_code == 204
    listed = http.get(path).json()["items"]
    assert [item["name"] for item in listed] == ["KEY", "OTHER", "TOKEN"]
    assert all(set(item) == {"name", "set_at"} for item in listed)
    assert datetime.now(UTC).timestamp() - datetime.fromisoformat(listed[0]["set_at"]).timestamp() < 60

    developer = Developer(tmp_path / "work", service, "notes")
    developer.commit(files())
    shown = developer.push()
    assert (
        f"token: *** {len(TOKEN)}" in shown and "notes-1 failure: gate test_failures: 1, at most 0 (t::a[***]" in shown
    )
    pages = [http.get("/builds/notes-1", headers={"Accept": accept}).text for accept in ("text/html", "*/*")]
    stream = http.get("/builds/notes-1/events").text
    assert "token: ***" in stream and "event: end" in stream
    flaky = http.get("/apps/notes/tests/flaky").text
    kept = service_log(service) + "".join(str(dump(database, key)) for key in database.scan_iter())
    assert "build:secrets:notes" in kept
    assert_hidden(shown + "".join(pages) + stream + service.log("notes-1") + flaky + kept)

    assert http.delete("/apps/notes").status_code == 202
    eventually(lambda: not database.exists("build:secrets:notes"))
    eventually(lambda: http.get(path).status_code == 404)
    http.post("/apps", json={"name": "notes"}).raise_for_status()
    assert http.get(path).json()["items"] == []


def service_log(service: BuildService) -> str:
    return (service.home / "service.log").read_text()


def dump(database: Any, key: str) -> Any:
    """The key with all that it holds."""
    kind = database.type(key)
    if kind == "hash":
        return key, database.hgetall(key)
    if kind == "list":
        return key, database.lrange(key, 0, -1)
    if kind == "zset":
        return key, database.zrange(key, 0, -1)
    if kind == "stream":
        return key, database.xrange(key)
    return key, database.smembers(key) if kind == "set" else database.get(key)
