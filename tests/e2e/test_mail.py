"""The manifest's addresses are told, once, also of what happened while the monitor was down."""

import json
import time
from collections.abc import Callable, Iterator

import pytest

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.mail_sink import MailSink, mail_sink
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack


@pytest.fixture
def sink() -> Iterator[MailSink]:
    with mail_sink() as sink:
        yield sink


def write(app: Deployable, **changes: object) -> None:
    """Commits a manifest with these changes."""
    path = app.repository.folder / "slipway.yml"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    app.repository.commit("manifest")


def test_a_build_and_a_canary_that_fail_while_the_monitor_is_down_are_told_once_each(
    stack: LocalStack, make_app: Callable[[str], Deployable], sink: MailSink
) -> None:
    app = make_app("told")
    write(app, notify=[sink.url("team@example.com")])
    app.deliver(Environment.PRODUCTION)
    with stack.kept_down("monitor"):
        failing = {"name": "test", "stage": "test", "commands": ["echo E assert 1 == 2", "exit 1"]}
        write(app, steps=[failing])
        app.repository.push("release").finish()
        write(app, steps=[], run={"command": "sh -c 'echo no such thing; exit 3'", "health": "/up"})
        app.repository.push("dev").finish()
    wait_for(stack.is_ready, "the monitor ready again", 30)
    sink.wait_for(lambda mails: len(mails) >= 2, 30)
    time.sleep(2)  # time enough for a message too many
    failed_build, failed_release = sorted(sink.messages, key=lambda mail: mail.subject.startswith("told canary"))
    assert failed_build.to == failed_release.to == "team@example.com"
    assert failed_build.subject.startswith("told: build told-2 failed on release: ")
    assert "E assert 1 == 2" in failed_build.text and "/builds/told-2" in failed_build.text
    assert failed_release.subject.startswith("told canary: release told-r2 failed: ")
    assert "/builds/told-3" in failed_release.text
    assert len(sink.messages) == 2
