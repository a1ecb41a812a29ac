"""Services killed with -9 at random moments of builds and releases, under load: no request is lost, and each build ends
once, with one artifact, one release and one mail.
"""

import contextlib
import json
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import redis as sync_redis

from services.build.executors.process.executor import MARKER
from shared.host.directory_digest import directory_digest
from shared.host.process_search import marked_pids
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.mail_sink import MailSink, mail_sink
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack
from tests.support.stack.cadence import RATE
from tests.support.stack.traces import processes

SEED = int(os.environ.get("E2E_SEED", time.time()))
ROUNDS = int(os.environ.get("E2E_KILLS", "4"))  # 200 where there is time
# The monitor is none of them: killed between a mail and its record of it, it sends the mail again.
VICTIMS = os.environ.get("E2E_VICTIMS", "build").split()
log = logging.getLogger(__name__)
FIRST_LIVE = 2  # the round whose commit is the first to be live
LATEST_S = 2.5  # after the build was queued: by then it is being deployed, or has just ended


@pytest.fixture
def sink() -> Iterator[MailSink]:
    with mail_sink() as sink:
        yield sink


@pytest.fixture
def app(make_app: Callable[[str], Deployable], sink: MailSink) -> Deployable:
    app = make_app("killed")
    path = app.repository.folder / "slipway.yml"
    steps = [{"name": "count", "commands": ["for n in 1 2 3 4 5 6; do echo tick $n; sleep 0.2; done", "sh verdict.sh"]}]
    notify = [sink.url("team@example.com")]
    path.write_text(json.dumps({**json.loads(path.read_text()), "steps": steps, "notify": notify}))
    return app


def built(stack: LocalStack, build_id: str) -> dict[str, Any]:
    """Empty while the service is away, or does not know it yet."""
    try:
        with stack.api("build") as build:
            answer = build.get(f"/builds/{build_id}")
    except httpx.HTTPError:
        return {}
    found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
    return found


def ends_after_a_kill(stack: LocalStack, app: Deployable, number: int, victim: str, moment_s: float) -> dict[str, Any]:
    """The build of an odd number fails its step, the one after it succeeds: a mail each."""
    (app.repository.folder / "verdict.sh").write_text(f"# {number}\nexit {number % 2}\n")
    app.repository.commit(f"round {number}")
    push = app.repository.push("release")
    build_id = f"{app.app}-{number}"
    wait_for(lambda: bool(built(stack, build_id)), f"{build_id} queued", 30)
    time.sleep(moment_s)
    pid = stack.pid(victim)
    assert pid, f"{victim} does not run"  # 0 would be this process's group
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: built(stack, build_id).get("finished_at") is not None, f"the end of {build_id}", 90)
    push.finish()
    return built(stack, build_id)


def states_told(stack: LocalStack, build_id: str) -> list[str]:
    """Returns the types of the build's events in the stream `events`, oldest first."""
    with sync_redis.Redis.from_url(stack.settings.redis_connection_url(), decode_responses=True) as database:
        events = [json.loads(fields["event"]) for _, fields in database.xrange("events")]
    return [event["type"] for event in events if event.get("id") == build_id and event["type"].startswith("build.")]


def check_what_is_left(stack: LocalStack, app: Deployable, build: dict[str, Any]) -> None:
    folder = stack.settings.home / "releases" / app.app / build["id"]
    releases = app.call("deployer", "GET", f"/apps/{app.app}/environments/production/releases?limit=100")["items"]
    of_build = [release["state"] for release in releases if release["build"] == build["id"]]
    assert marked_pids(MARKER, str(folder)) == []
    assert not list(folder.parent.glob(f".{build['id']}*"))
    if build["state"] == "success":
        assert (build["artifact"]["built_in"], of_build) == (str(folder), ["live"])
        assert build["artifact"]["digest"] == directory_digest(folder)
    else:
        assert (folder.exists(), build["artifact"], of_build) == (False, None, [])


def check_nothing_is_doubled(stack: LocalStack, app: Deployable, sink: MailSink, rounds: int) -> None:
    sink.wait_for(lambda mails: len(mails) >= rounds, 30)
    time.sleep(2)  # time enough for one too many
    subjects = [mail.subject for mail in sink.messages]
    of_builds = [subject.partition("build ")[2].partition(" ")[0] for subject in subjects]
    assert sorted(of_builds) == sorted(f"{app.app}-{number}" for number in range(1, rounds + 1)), f"seed {SEED}"
    [instance] = app.call("deployer", "GET", f"/apps/{app.app}/environments/production")["instances"]
    mine = processes(stack, instance["id"])
    assert mine and processes(stack, f"{app.app}-r") == mine, f"seed {SEED}"


@pytest.mark.timeout(300 + 20 * ROUNDS)
def test_a_build_whose_service_is_killed_ends_once_and_is_told_once(
    stack: LocalStack, app: Deployable, sink: MailSink
) -> None:
    chance, attempts = random.Random(SEED), []
    spans = list(range(ROUNDS))  # of equal length; one kill in each, so that few hit the whole of a build too
    chance.shuffle(spans)
    load = Load(app.public, rate=RATE, host=app.host, limit_s=7200)
    with contextlib.ExitStack() as running:
        for number, span in enumerate(spans, 1):
            victim, moment_s = VICTIMS[number % len(VICTIMS)], (span + chance.random()) * LATEST_S / ROUNDS
            said = f"seed {SEED}, round {number}, {victim} killed after {moment_s:.2f} s"
            build = ends_after_a_kill(stack, app, number, victim, moment_s)
            wait_for(stack.is_ready, f"{victim} well again", 60)
            state = "failure" if number % 2 else "success"
            assert build["state"] == state, f"{said}: {build}"
            told = states_told(stack, build["id"])
            assert told == ["build.queued", "build.running", f"build.{state}"], f"{said}: {told}"
            check_what_is_left(stack, app, build)
            attempts.append(build["attempt"])
            if number == FIRST_LIVE:
                running.enter_context(load)
    log.warning("%d kills over %d pushes, seed %d: %s", ROUNDS, ROUNDS, SEED, load.report().lines())
    assert load.report().lost == 0, f"seed {SEED}: {load.report().lines()}"
    assert max(attempts) == 2, f"seed {SEED}: no kill hit a build that ran, {attempts}"
    check_nothing_is_doubled(stack, app, sink, ROUNDS)
