"""A repository of many pushes, of which one is forced away and old, through a whole build service."""

import os
import time
from pathlib import Path

import pytest

from services.build.retention.repository_gc import PACKS
from tests.support.build.service import BuildService, Developer, eventually

pytestmark = pytest.mark.slow

APP = "notes"
RECEIVE_PACK = "git -c receive.unpackLimit=1 -c receive.autogc=false receive-pack"
MANIFEST = f"app: {APP}\nsteps:\n- {{name: show, commands: ['cat file']}}\nrun: {{command: x}}\n"
A_MONTH_S = 30 * 24 * 3600


def test_it_is_packed_and_the_old_commit_is_built_again(service: BuildService, tmp_path: Path) -> None:
    developer, repository = Developer(tmp_path / "work", service, APP), service.home / "repositories" / f"{APP}.git"
    developer.commit({"slipway.yml": MANIFEST, "file": "the first\n"})
    assert "notes-1 success" in developer.push()
    service.kill()
    for number in range(PACKS):  # past the service: its hooks would wait for it
        developer.git("checkout", "--quiet", "--orphan", f"at-{number}")
        developer.commit({"file": f"{number}\n"})
        developer.git("push", "--quiet", f"--receive-pack={RECEIVE_PACK}", str(repository), "+HEAD:refs/heads/release")
    for path in repository.glob("objects/pack/*"):
        os.utime(path, (time.time() - A_MONTH_S,) * 2)
    packs = len(list(repository.glob("objects/pack/*.pack")))
    service.start()
    eventually(lambda: len(list(repository.glob("objects/pack/*.pack"))) < 3, 60)
    assert packs == PACKS + 1
    assert service.ended("notes-2")["state"] == "success"
    assert service.http.post("/builds/notes-1/retry").status_code == 202
    assert service.ended("notes-3")["state"] == "success"
    assert "the first" in service.log("notes-3").splitlines()
    shown = developer.git("ls-remote", developer.remote).split()
    assert [ref for ref in shown if ref.startswith("refs/")] == ["refs/heads/release"]
