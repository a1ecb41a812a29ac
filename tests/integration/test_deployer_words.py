"""Tests what people read of a release that failed: the causes are real apps with the usual mistakes."""

import sys
from typing import Any

import pytest

from tests.support.deployer.deployer_stack import Deployer, Outside

pytestmark = pytest.mark.anyio
LISTEN = "import http.server; http.server.ThreadingHTTPServer(('{host}', {port}), None).serve_forever()"


async def failed(deployer: Deployer, outside: Outside, command: str, **run: Any) -> Any:
    """The release of a build with this command, as soon as it has failed."""
    build = outside.build(1)
    outside.builds[build]["manifest"]["run"] |= {"command": command, **run}
    await deployer.release(build)
    release = await deployer.until("notes-r1", "failed", "live", within_s=20)
    assert release["state"] == "failed"
    return release


async def test_an_app_that_listens_elsewhere_reads_where(deployer: Deployer, outside: Outside) -> None:
    script = LISTEN.format(host="127.0.0.1", port=0)
    command = f'{sys.executable} -c "{script}"'
    release = await failed(deployer, outside, command, command_from="app.py")
    said = release["reason"]
    assert said.startswith("notes-r1-1: not ready within 2 s: GET /up: nothing listens on $PORT 2")
    assert "; it listens on 127.0.0.1:" in said and ": let the app listen on $PORT" in said
    assert said.endswith(
        f"it ran `{command}`, inferred from app.py; if that is wrong, write run.command in slipway.yml"
    )


async def test_an_app_that_listens_nowhere_reads_that(deployer: Deployer, outside: Outside) -> None:
    release = await failed(deployer, outside, "sleep 60")
    assert "; the app listens on no port at all" in release["reason"] and "; it ran `sleep 60`" in release["reason"]


async def test_an_app_that_ends_reads_how_and_what_was_run(deployer: Deployer, outside: Outside) -> None:
    release = await failed(deployer, outside, "true")
    assert release["reason"] == (
        "notes-r1-1: it ended with exit code 0, but an app has to run on, and to listen on $PORT; it ran `true`"
    )


async def test_an_app_that_a_real_time_signal_ended_reads_that(deployer: Deployer, outside: Outside) -> None:
    release = await failed(deployer, outside, f"{sys.executable} -c 'import os; os.kill(os.getpid(), 40)'")
    assert "it ended with exit code 168 (signal 40); it ran `" in release["reason"]


async def test_a_release_that_wants_more_memory_than_the_machine_has_reads_so(
    deployer: Deployer, outside: Outside
) -> None:
    await deployer.release(outside.build(1, resources={"memory": "8000000m", "max_memory": "8000000m"}))
    release = await deployer.until("notes-r1", "failed", "live", within_s=20)
    said = "resources.memory is 8000000 MiB, but the machine has "
    assert said in release["reason"] and release["reason"].endswith(" in all; lower it in slipway.yml")
    assert await deployer.instances() == []


async def test_no_secret_is_shown_in_reasons_lines_or_logs(deployer: Deployer, outside: Outside) -> None:
    path = "/apps/notes/environments/production"
    await deployer.call("PATCH", path, {"secrets": {"KEY": "key-of-the-vault"}})
    lines = "echo began; for n in $(seq 30); do echo line $n; done; echo $KEY $REDIS_URL $FLAGS_TOKEN >&2; exit 3"
    release = await failed(deployer, outside, lines)
    log = release["failure"]["log"]
    assert log[:6] == ["began", "line 1", "line 2", "line 3", "line 4", "... 12 lines are left out ..."]
    assert log[-1].startswith("*** redis://app:***@127.0.0.1:") and log[-1].endswith(" ***")
    shown = (await deployer.client.get(f"{path}/logs")).text
    assert shown.splitlines()[-1] == f"notes-r1-1 | {log[-1]}"
    assert "key-of-the-vault" not in shown + str(release)
