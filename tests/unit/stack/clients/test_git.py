"""The repository that demo and benches push from, with real git."""

import base64
import contextlib
import subprocess
import threading
from pathlib import Path

import psutil
import pytest

from stack.clients.git import Repository
from tests.support.stack.misbehaving import Reply, Request, http, serving

TOKEN = "of-the-test"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(path)], check=True)
    return path


def remote_commit(bare: Path, branch: str) -> str:
    return subprocess.check_output(["git", "-C", str(bare), "rev-parse", branch], text=True).strip()


def test_what_is_committed_arrives_under_the_branch(tmp_path: Path, bare: Path) -> None:
    repository = Repository(tmp_path / "work", str(bare), TOKEN)
    (repository.folder / "file").write_text("one\n")
    first = repository.commit("one")
    repository.replace("file", "one", "two")
    second = repository.commit("two")
    pushed = repository.push("dev").finish()
    assert pushed.accepted
    assert pushed.commit == second == remote_commit(bare, "dev")
    repository.go_back_to(first)
    assert (repository.folder / "file").read_text() == "one\n"
    assert repository.push("dev").finish().accepted
    assert remote_commit(bare, "dev") == first


def test_an_unchanged_tree_is_a_new_commit(tmp_path: Path, bare: Path) -> None:
    repository = Repository(tmp_path / "work", str(bare), TOKEN)
    assert repository.commit("one") != repository.commit("two")


def test_replace_wants_exactly_one_place(tmp_path: Path, bare: Path) -> None:
    repository = Repository(tmp_path / "work", str(bare), TOKEN)
    (repository.folder / "file").write_text("same same")
    with pytest.raises(ValueError, match="2 times"):
        repository.replace("file", "same", "other")


def test_what_the_app_made_is_not_copied(tmp_path: Path, bare: Path) -> None:
    source = tmp_path / "source"
    for name in ("app.py", ".gitignore", "__pycache__/app.pyc", "reports/junit.xml", ".venv/bin/python"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    repository = Repository(tmp_path / "work", str(bare), TOKEN)
    repository.copy_from(source)
    assert {path.name for path in repository.folder.iterdir()} == {"app.py", ".gitignore", ".git"}


def test_the_token_is_sent_but_stands_on_no_command_line(tmp_path: Path) -> None:
    looked = threading.Event()

    def refuse(request: Request) -> Reply:
        looked.wait(5)
        return Reply(http(b"", status=403), close=True)

    login = base64.b64encode(f"slipway:{TOKEN}".encode()).decode()
    with serving(refuse) as server:
        repository = Repository(tmp_path / "work", f"{server.url}/git/notes.git", TOKEN)
        repository.commit("one")
        push = repository.push("release")
        while not server.requests:
            assert not push.ended
        lines = []
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # ended, or another test's zombie
                lines.append(" ".join(child.cmdline()))
        looked.set()
        pushed = push.finish()
    assert any("push" in line for line in lines)
    assert not any(TOKEN in line or login in line for line in lines)
    assert server.requests[0].headers["authorization"] == f"Basic {login}"
    assert not pushed.accepted
    assert "403" in pushed.output
    assert TOKEN not in pushed.output
