"""Without open files a service lives on, says so, and is well once there are some again."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from services.build.executors.executor import Order
from services.build.system import patience
from services.build.system.stop import Stop
from tests.support.build.executors import Printed, process_case, workspace_in
from tests.support.build.service import BuildService, Developer, eventually

pytestmark = pytest.mark.anyio


@contextlib.contextmanager
def no_file_left(but: int = 0) -> Iterator[Callable[[], None]]:
    """Leaves this process only `but` open files; what it yields gives all back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    held: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    for _ in range(but):
        os.close(held.pop())

    def give_back() -> None:
        while held:
            os.close(held.pop())

    try:
        yield give_back
    finally:
        give_back()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_step_waits_for_files_and_says_so(tmp_path: Path) -> None:
    workspace, executor, printed = workspace_in(tmp_path), process_case(tmp_path).executor, Printed()
    workspace.scratch.mkdir(exist_ok=True)
    with no_file_left(but=4) as give_back:  # for the pipe of its output, not for those of the process
        asyncio.get_running_loop().call_later(0.6, give_back)
        outcome = await executor.run(workspace, Order(["echo done"], 20), printed, Stop())
    assert (outcome.exit_code, outcome.reason) == (0, "")
    assert b"waits, for up to 30 s: this service has all 512 files open that it may; raise its limit" in printed.data
    assert printed.data.endswith(b"done\n")


async def test_what_does_not_pass_is_not_waited_for_and_what_stays_short_ends() -> None:
    def failing(code: int) -> Callable[[], None]:
        def make() -> None:
            raise OSError(code, os.strerror(code))

        return make

    printed, stop = Printed(), Stop()
    for code in (errno.ENOENT, errno.ENOSPC):
        with pytest.raises(OSError, match=os.strerror(code)):
            await asyncio.wait_for(patience.patiently(failing(code), printed, stop), 5)
    assert printed.data == b""
    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
        await asyncio.wait_for(patience.patiently(failing(errno.ENOMEM), printed, stop, patience_s=0.3), 5)
    assert b"the machine has no memory left" in printed.data
    stop.set()
    with pytest.raises(OSError, match=os.strerror(errno.EAGAIN)):
        await asyncio.wait_for(patience.patiently(failing(errno.EAGAIN), printed, stop), 5)


def test_a_service_whose_files_visitors_use_up_lives_on(tmp_path: Path, redis_server: str) -> None:
    with BuildService(tmp_path / "home", redis_server).running() as service:
        process = psutil.Process(service.process.pid)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 20, 4096))
        with contextlib.ExitStack() as connections:
            for _ in range(100):
                connections.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=5))
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"{service.url}/health", timeout=1, trust_env=False)
            assert process.is_running()
        eventually(service.ready, 10)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 2, 4096))
        developer = Developer(tmp_path / "work", service, "notes")
        developer.commit({"slipway.yml": "app: notes\nrun: {command: python app.py}\n"})
        shown = developer.push()
        assert "files open that it may; raise its limit" in shown or "returned error: 50" in shown, shown
        process.rlimit(psutil.RLIMIT_NOFILE, (4096, 4096))
        assert "live in production" in developer.push()
        assert [each["id"] for each in service.http.get("/apps/notes/builds").json()["items"]] == ["notes-1"]
