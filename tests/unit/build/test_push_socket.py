"""The hook as git runs it, against the socket."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from services.build.push_socket import PushSocket, install_hook

pytestmark = pytest.mark.anyio
UPDATE = f"{'0' * 40} {'a' * 40} refs/heads/release"


@pytest.fixture
def run_hook(tmp_path: Path) -> Callable[[], "subprocess.Popen[bytes]"]:
    install_hook(tmp_path / "hooks")
    repository = tmp_path / "notes.git"
    repository.mkdir()

    def run() -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [str(tmp_path / "hooks" / "post-receive")],
            cwd=repository,
            env={"SLIPWAY_PUSH_SOCKET": str(tmp_path / "build.sock"), "SLIPWAY_BUILD_URL": "http://build"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(f"{UPDATE}\n".encode())
        process.stdin.flush()
        return process

    return run


async def test_the_hook_tells_of_the_push_and_shows_the_answer(
    tmp_path: Path, run_hook: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    heard: list[object] = []

    async def tell(app: str, updates: Sequence[str]) -> AsyncIterator[bytes]:
        heard.append((app, list(updates)))
        yield b"building\n"
        yield b"done\n"

    async with PushSocket(tmp_path / "build.sock", tell).listening():
        assert os.stat(tmp_path / "build.sock").st_mode & 0o777 == 0o600
        hook = run_hook()
        shown, _ = await asyncio.to_thread(hook.communicate)
    assert (shown, hook.returncode) == (b"building\ndone\n", 0)
    assert heard == [("notes", [UPDATE])]


async def test_a_service_that_breaks_off_leaves_the_push_kept(
    tmp_path: Path, run_hook: Callable[[], "subprocess.Popen[bytes]"], caplog: pytest.LogCaptureFixture
) -> None:
    async def tell(app: str, updates: Sequence[str]) -> AsyncIterator[bytes]:
        yield b"building\n"
        raise RuntimeError("broken")

    async with PushSocket(tmp_path / "build.sock", tell).listening():
        hook = run_hook()
        shown, _ = await asyncio.to_thread(hook.communicate)
    assert shown.startswith(b"building\nThe build service was interrupted. Your push is kept")
    assert shown.endswith(b"follow it at http://build/\n")
    assert hook.returncode == 0
    assert "telling a pusher failed" in caplog.text


def test_without_a_service_the_push_is_kept(run_hook: Callable[[], "subprocess.Popen[bytes]"]) -> None:
    hook = run_hook()
    shown, _ = hook.communicate()
    assert b"Your push is kept" in shown
    assert hook.returncode == 0


def test_no_hook_carries_the_name_of_the_service(tmp_path: Path) -> None:
    install_hook(tmp_path / "hooks")
    assert "services" not in (tmp_path / "hooks" / "post-receive").read_text()
