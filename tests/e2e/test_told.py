"""People get each message about a failure once, whatever was down meanwhile; an alert belongs to one release."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.models import Environment
from stack.clients.delivery import BRANCH, Deployable
from stack.clients.load import Load
from stack.clients.mail_sink import MailSink, mail_sink
from stack.clients.probe_client import tracks_of_new_visitors, wait_for
from stack.local.local_stack import LocalStack
from tests.support.stack.cadence import outlast_the_watch

DOWN_S = float(os.environ.get("E2E_DOWN_S", "4"))  # 60 where there is time


@pytest.fixture
def make_told(make_app: Callable[[str], Deployable]) -> Callable[[str, MailSink], Deployable]:
    """An app whose manifest names the mail server, with production and, if asked for, a canary on its way."""

    def make(name: str, sink: MailSink) -> Deployable:
        app = make_app(name)
        path = app.repository.folder / "slipway.yml"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"notify": [sink.url(f"{name}@example.com")]}))
        deliver(app, Environment.PRODUCTION)
        return app

    return make


def deliver(app: Deployable, environment: Environment, **edits: str) -> str:
    """A new commit with other values of constants of notes.py, pushed until it is live; the release's id."""
    head = app.repository.commit("before")
    for name, value in edits.items():
        app.repository.replace("notes.py", f"{name} = 0.0", f"{name} = {value}")
    (app.repository.folder / "VERSION").write_text(f"{environment} {time.monotonic()}")
    app.repository.commit("next")
    pushed = app.repository.push(BRANCH[environment]).finish()
    assert "is live" in pushed.output, pushed.output
    app.repository.go_back_to(head)
    return str(app.latest_release(environment)["id"])


def mails(sink: MailSink, *words: str) -> list[str]:
    """Subjects of the messages that hold all of these words."""
    return [mail.subject for mail in sink.messages if all(word in f"{mail.subject}\n{mail.text}" for word in words)]


def failing_push(app: Deployable) -> None:
    head = app.repository.commit("before")
    path = app.repository.folder / "slipway.yml"
    steps = [{"name": "test", "stage": "test", "commands": ["echo the-very-line-that-failed; exit 1"]}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"steps": steps}))
    app.repository.commit("a step that fails")
    app.repository.push("release").finish()
    app.repository.go_back_to(head)


def until_aborted(app: Deployable, release: str, timeout_s: float = 30) -> float:
    def aborted() -> bool:
        rollout = app.rollout()
        return (rollout["release"], rollout["state"]) == (release, "aborted")

    return wait_for(aborted, f"{release} aborted", timeout_s)


def alerts(app: Deployable, release: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = app.call("monitor", "GET", f"/alerts?app={app.app}")["items"]
    return [alert for alert in found if alert["release"] == release]


def test_each_failing_canary_is_aborted_a_good_one_is_not_and_a_silence_keeps_nothing_back(
    make_told: Callable[[str, MailSink], Deployable],
) -> None:
    with mail_sink() as sink, load_of(app := make_told("chain", sink)):
        first = deliver(app, Environment.CANARY, FAIL_SHARE="1.0")
        until_aborted(app, first)
        wait_for(lambda: len(mails(sink, first, "aborted")) == 1, "the mail about the abort", 15)
        assert mails(sink, first, "to the canary failed"), "the mail holds the evidence"
        app.call("monitor", "POST", "/silences", {"app": app.app, "duration_s": 600, "reason": "known"})
        second = deliver(app, Environment.CANARY, FAIL_SHARE="1.0")
        until_aborted(app, second)
        good = deliver(app, Environment.CANARY)
        time.sleep(6)  # longer than an abort takes
        assert app.rollout()["state"] == "progressing", app.rollout()
        assert app.rollout()["release"] == good
        assert not alerts(app, good)
        assert not mails(sink, second), "the silence mutes messages"
        assert len(mails(sink, first, "aborted")) == 1
        told = [item["state"] for item in app.call("monitor", "GET", f"/deliveries?app={app.app}")["items"]]
        assert "silenced" in told


def load_of(app: Deployable) -> Load:
    return Load(app.public, rate=60, host=app.host, limit_s=120)


def test_a_mail_server_that_is_down_delays_but_loses_and_doubles_nothing(
    stack: LocalStack, make_told: Callable[[str, MailSink], Deployable]
) -> None:
    with mail_sink() as sink:
        app = make_told("postless", sink)
        with sink.down():
            failing_push(app)
            failing_push(app)
            time.sleep(DOWN_S)
            with stack.api("monitor") as monitor:
                ready = monitor.get("/ready")
            assert ready.status_code == 200, ready.text
        wait_for(lambda: len(mails(sink, "the-very-line-that-failed")) == 2, "both mails", 60 + DOWN_S)
        time.sleep(3)  # time enough for one too many
        assert len(mails(sink, "the-very-line-that-failed")) == 2
        pushed = deliver(app, Environment.PRODUCTION)
        wait_for(lambda: bool(mails(sink, "recovered")), f"the mail that {pushed} recovered", 15)


def test_a_monitor_that_was_down_tells_afterwards(
    stack: LocalStack, make_told: Callable[[str, MailSink], Deployable]
) -> None:
    with mail_sink() as sink:
        app = make_told("deaf", sink)
        release = deliver(app, Environment.CANARY)
        with stack.kept_down("monitor"):
            record = stack.settings.home / "instances" / f"{release}-1" / "record.json"
            os.killpg(json.loads(record.read_text())["pid"], signal.SIGKILL)  # while the deployer watches it
            until_aborted(app, release)
            failing_push(app)
            time.sleep(DOWN_S)
        wait_for(lambda: bool(mails(sink, "the-very-line-that-failed")), "the mail about the build", 30)
        wait_for(lambda: bool(mails(sink, release)), "the mail about the canary", 30)
        time.sleep(3)  # time enough for one too many
        assert len(mails(sink, "the-very-line-that-failed")) == 1
        assert len(mails(sink, release, "aborted")) == 1, [mail.subject for mail in sink.messages]


def test_a_silent_deployer_pauses_the_rollout_and_raises_no_alert(
    stack: LocalStack, make_told: Callable[[str, MailSink], Deployable]
) -> None:
    with mail_sink() as sink, load_of(app := make_told("quiet", sink)):
        release = deliver(app, Environment.CANARY)
        with stack.kept_down("deployer"):
            wait_for(lambda: app.rollout()["state"] == "paused", "the rollout paused", 20)
            assert "deployer" in app.rollout()["reason"]
            time.sleep(max(DOWN_S, float(os.environ.get("E2E_SILENT_S", "6"))))
        wait_for(lambda: app.rollout()["state"] == "progressing", "the rollout goes on", 30)
        time.sleep(3)
        assert [alert for alert in alerts(app, release) if alert["state"] != "inactive"] == []
        assert app.rollout()["state"] == "progressing"


@contextlib.contextmanager
def frozen(stack: LocalStack, *releases: str) -> Iterator[None]:
    """Stops the releases' first instances by a signal for the length of the block, as a machine that stalls does."""
    leaders = []
    for release in releases:
        record = stack.settings.home / "instances" / f"{release}-1" / "record.json"
        leaders.append(json.loads(record.read_text())["pid"])
    for leader in leaders:
        os.killpg(leader, signal.SIGSTOP)
    try:
        yield
    finally:
        for leader in leaders:
            os.killpg(leader, signal.SIGCONT)


@pytest.mark.smoke
def test_a_canary_frozen_beside_production_goes_on_and_frozen_alone_is_aborted_in_under_6_s(
    stack: LocalStack, make_told: Callable[[str, MailSink], Deployable]
) -> None:
    """Is case run/37: both stand still for the same 4 s, long enough for three probes of each."""
    with mail_sink() as sink:
        app = make_told("frozen", sink)
        production, release = app.latest_release(Environment.PRODUCTION)["id"], deliver(app, Environment.CANARY)
        outlast_the_watch()  # what acts now is monitor
        with frozen(stack, release, production):
            time.sleep(4)
        time.sleep(3)  # longer than the later of the two would take to be told of
        assert app.rollout()["state"] == "progressing", app.rollout()
        assert not alerts(app, release)
        with frozen(stack, release):
            seconds = until_aborted(app, release)
        assert seconds < 6
        assert tracks_of_new_visitors(app.public, 100, host=app.host) == {"stable": 100}
