"""The hook as git runs it, against the socket."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

import pytest

from services.build.git.push_socket import IncomingPush, JudgePush, PushRefused, PushSocket, install_hooks

pytestmark = pytest.mark.anyio
OBJECTS = "/home/notes.git/objects/tmp_objdir-incoming-1"
UPDATE = f"{'0' * 40} {'a' * 40} refs/heads/release"


async def nobody(push: IncomingPush) -> AsyncGenerator[bytes, None]:
    raise AssertionError(f"{push} was not to be judged")
    yield b""


@pytest.fixture
def run_hook(tmp_path: Path) -> Callable[..., "subprocess.Popen[bytes]"]:
    install_hooks(tmp_path / "hooks")
    repository = tmp_path / "notes.git"
    repository.mkdir()
    (repository / "gated").touch()

    def run(hook: str = "post-receive") -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [str(tmp_path / "hooks" / hook)],
            cwd=repository,
            env={
                "SLIPWAY_PUSH_SOCKET": str(tmp_path / "build.sock"),
                "SLIPWAY_BUILD_URL": "http://build",
                "SLIPWAY_PUSH": "push-1",
                "GIT_QUARANTINE_PATH": OBJECTS,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a hook that asks nobody may have ended
            os.write(process.stdin.fileno(), f"{UPDATE}\n".encode())
        return process

    return run


async def test_the_hook_tells_of_the_push_and_shows_the_answer(
    tmp_path: Path, run_hook: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    heard: list[object] = []

    async def tell(app: str, updates: Sequence[str]) -> AsyncGenerator[bytes, None]:
        heard.append((app, list(updates)))
        yield b"building\n"
        yield b"done\n"

    async with PushSocket(tmp_path / "build.sock", tell, nobody).listening():
        assert os.stat(tmp_path / "build.sock").st_mode & 0o777 == 0o600
        hook = run_hook()
        shown, _ = await asyncio.to_thread(hook.communicate)
    assert (shown, hook.returncode) == (b"building\ndone\n", 0)
    assert heard == [("notes", [UPDATE])]


async def test_a_service_that_breaks_off_leaves_the_push_kept(
    tmp_path: Path, run_hook: Callable[[], "subprocess.Popen[bytes]"], caplog: pytest.LogCaptureFixture
) -> None:
    async def tell(app: str, updates: Sequence[str]) -> AsyncGenerator[bytes, None]:
        yield b"building\n"
        raise RuntimeError("broken")

    async with PushSocket(tmp_path / "build.sock", tell, nobody).listening():
        hook = run_hook()
        shown, _ = await asyncio.to_thread(hook.communicate)
    assert shown.startswith(b"building\nThe build service was interrupted. Your push is kept")
    assert shown.endswith(b"follow it at http://build/\n")
    assert hook.returncode == 0
    assert "answering a push failed" in caplog.text


def test_without_a_service_the_push_is_kept(run_hook: Callable[[], "subprocess.Popen[bytes]"]) -> None:
    hook = run_hook()
    shown, _ = hook.communicate()
    assert b"Your push is kept" in shown
    assert hook.returncode == 0


async def judging(push: IncomingPush) -> AsyncGenerator[bytes, None]:
    assert push == IncomingPush("notes", "push-1", OBJECTS, [UPDATE])
    yield b"judging\0\n"  # what a step says is never taken for the verdict


async def refusing(push: IncomingPush) -> AsyncGenerator[bytes, None]:
    yield b"judging\0"
    raise PushRefused("no: mend it")


async def breaking(push: IncomingPush) -> AsyncGenerator[bytes, None]:
    yield b"judging\0"
    raise ConnectionAbortedError


@pytest.mark.parametrize(
    ("judge", "shown", "code"),
    [
        (judging, b"judging\n", 0),
        (refusing, b"judgingno: mend it\n", 1),
        (breaking, b"judgingRefused: this app's releases are judged", 1),
    ],
)
async def test_only_the_service_lets_a_push_in(
    tmp_path: Path, run_hook: Callable[..., "subprocess.Popen[bytes]"], judge: JudgePush, shown: bytes, code: int
) -> None:
    async def tell(app: str, updates: Sequence[str]) -> AsyncGenerator[bytes, None]:
        raise AssertionError("it was not accepted yet")
        yield b""

    async with PushSocket(tmp_path / "build.sock", tell, judge).listening():
        hook = run_hook("pre-receive")
        said, _ = await asyncio.to_thread(hook.communicate)
    assert said.startswith(shown)
    assert hook.returncode == code


def test_without_a_service_nothing_goes_in_where_a_gate_is_set(
    tmp_path: Path, run_hook: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    hook = run_hook("pre-receive")
    shown, _ = hook.communicate()
    assert (hook.returncode, b"Nothing of this push was accepted; push again" in shown) == (1, True)
    (tmp_path / "notes.git" / "gated").unlink()
    hook = run_hook("pre-receive")
    assert hook.communicate()[0] == b""
    assert hook.returncode == 0


def test_no_hook_carries_the_name_of_the_service(tmp_path: Path) -> None:
    install_hooks(tmp_path / "hooks")
    assert "services" not in (tmp_path / "hooks" / "post-receive").read_text()
