"""The example app: its own tests, its manifest, and its end under load."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from shared.manifest import Manifest
from stack.clients.load import Load
from tests.support.ports import free_port, wait_for_port

NOTES = Path(__file__).parents[2] / "examples" / "notes"


def test_its_own_tests_pass() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=NOTES, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_its_manifest_is_one() -> None:
    manifest = Manifest.model_validate(yaml.safe_load((NOTES / "slipway.yml").read_text()))
    assert (manifest.app, manifest.gates.coverage, manifest.gates.test_failures) == ("notes", 70, 0)


def test_it_serves_the_load_and_ends_in_order() -> None:
    port = free_port()
    environment = {"PORT": str(port), "SLIPWAY_COMMIT": "c" * 40, "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=NOTES, env=environment)
    try:
        wait_for_port(port)
        with Load(f"http://127.0.0.1:{port}", rate=100) as load:
            time.sleep(0.5)
        assert load.report().lost == 0, load.report().reasons
        assert list(load.report().commits) == ["c" * 40]
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()


def test_the_demo_finds_what_it_edits() -> None:
    edited = {"slipway.yml": "app: notes", "notes.py": 'VERSION = "1.0"'}
    for file, text in (*edited.items(), ("notes.py", "\nFAIL_SHARE = 0.0")):
        assert (NOTES / file).read_text().count(text) == 1, text
