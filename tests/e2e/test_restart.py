"""The whole platform stopped and started again: what ran before runs again, a canary included."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from shared.models import Environment
from stack.clients.delivery import NOTES, Deployable
from stack.clients.probe_client import tracks_of_new_visitors, wait_for
from stack.local.local_stack import LocalStack, end_launcher, settings_on_free_ports, start_launcher
from tests.support.stack.cadence import CADENCE, WATCH_S


def test_what_ran_runs_again_after_a_stop_of_the_platform(tmp_path: Path) -> None:
    home = Path(tempfile.mkdtemp(prefix="slipway-restart-"))
    settings = settings_on_free_ports(home)
    log = tmp_path / "launcher.log"
    try:
        launcher = start_launcher(settings, log, CADENCE)
        stack = LocalStack(settings)
        wait_for(stack.is_ready, f"first start: {log.read_text()}", 60)
        app = Deployable(stack, "kept", tmp_path / "kept")
        app.repository.copy_from(NOTES)
        shutil.rmtree(app.repository.folder / "tests")
        manifest = {"app": "kept", "run": {"command": "python app.py"}}
        (app.repository.folder / "slipway.yml").write_text(json.dumps(manifest))
        commits = {}
        for environment in Environment:
            commits[environment] = app.repository.commit(environment)
            app.deliver(environment)
        wait_for(lambda: app.rollout()["state"] == "progressing", "rollout", 10)
        before = app.rollout()
        end_launcher(launcher)
        assert not list(processes_of(home))

        launcher = start_launcher(settings, log, CADENCE)
        wait_for(lambda: app.sees(app.production, commits[Environment.PRODUCTION]), "production again", 60)
        wait_for(lambda: app.sees(app.canary, commits[Environment.CANARY]), "canary again", 20)
        wait_for(stack.is_ready, "second start", 30)
        assert app.rollout() == before
        with pytest.raises(TimeoutError):  # nor does it change its mind
            wait_for(lambda: app.rollout() != before, "an abort", WATCH_S + 4)
        seen = tracks_of_new_visitors(app.public, 300, host=app.host)
        assert set(seen) == {"stable", "canary"}, seen
        told = app.call("monitor", "GET", "/alerts?app=kept")["items"]
        assert [alert for alert in told if alert["state"] in ("firing", "resolved")] == [], "a restart is no outage"
        end_launcher(launcher)
        assert not list(processes_of(home))
    finally:
        end_launcher(launcher)
        shutil.rmtree(home)


def processes_of(home: Path) -> list[str]:
    """Command lines of whatever still runs for this home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marks = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if str(home).encode() in marks:
            found.append(marks.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found
