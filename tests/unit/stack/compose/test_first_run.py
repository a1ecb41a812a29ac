"""The first run makes what the platform's containers share once, and only those that need it can read it."""

import ast
import io
import re
import stat
import sys
from pathlib import Path

import pytest

from shared.config import SharedSettings
from stack.compose import first_run
from stack.local.programs import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIPWAY_SECRETS", str(tmp_path))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, token: str = "") -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(token))
    first_run.main()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_makes_token_password_and_redis_configuration_and_keeps_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch)
    token = SharedSettings().platform_token()
    password = (folder / "redis" / "password").read_text().strip()
    conf = (folder / "redis" / "redis.conf").read_text()
    assert f'requirepass "{password}"' in conf
    assert "appendfsync always" in conf
    run(monkeypatch)
    assert (SharedSettings().platform_token(), (folder / "redis" / "redis.conf").read_text()) == (token, conf)


def test_only_redis_configuration_is_for_the_group(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "mine")
    modes = {name: mode(folder / name) for name in ("token", "key", "redis/password", "redis/redis.conf")}
    assert modes == {"token": 0o600, "key": 0o600, "redis/password": 0o600, "redis/redis.conf": 0o640}


def test_a_given_token_takes_the_place_of_the_kept_one_and_that_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "first\n")
    run(monkeypatch, "first\n")
    assert capsys.readouterr().out == ""
    run(monkeypatch, "second\n")
    assert capsys.readouterr().out == "changed\n"
    assert SharedSettings().platform_token() == "second"


def test_its_image_holds_what_it_imports() -> None:
    tree = ast.parse((ROOT / "stack/compose/first_run.py").read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    needed = {f"{module.replace('.', '/')}.py" for module in modules if module.startswith("stack.")}
    copied = set(re.findall(r"stack/\S+\.py", (ROOT / "Dockerfile").read_text()))
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    assert needed <= copied <= allowed
