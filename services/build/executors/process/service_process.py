"""Runs the test services of a step as processes of this machine."""

import asyncio
import contextlib
import socket
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial

from services.build.executors.executor import ServiceOrder, Workspace
from services.build.system.command import piped, uncancelled
from services.build.system.patience import patiently
from services.build.system.pipe import Output
from services.build.system.process_tree import ProcessTree
from services.build.system.stop import Stop
from shared.host.shortage import shortage

LOOK_AGAIN_S = 0.1
CHECK_TIMEOUT_S = 10.0
LINES_SHOWN = 20
LOCALHOST = "127.0.0.1"


class ServiceProcesses:
    """Runs the test services of one step. `marks` holds variables that their processes get, so that the executor can
    find and end these processes later. `addresses` holds the variables with the services' hosts and ports; `trees`
    holds their process trees.
    """

    def __init__(
        self,
        workspace: Workspace,
        environment: Mapping[str, str],
        marks: Mapping[str, str],
        output: Output,
        *,
        grace_s: float,
    ) -> None:
        self._workspace = workspace
        self._environment = dict(environment)
        self._marks = dict(marks)
        self._output = output
        self._grace_s = grace_s
        self.trees: list[ProcessTree] = []
        self._pipes = contextlib.AsyncExitStack()
        self.addresses: dict[str, str] = {}

    async def start(self, orders: Sequence[ServiceOrder], stop: Stop) -> str:
        """Starts the test services one after the other; each must be ready before the next one starts. Returns an empty
        text, or the reason why one did not become ready.
        """
        for order in orders:
            if reason := await self._start(order, stop):
                return reason
        return ""

    async def close(self) -> None:
        """Closes the pipes that take the output of the test services. The caller has to close the process trees in
        `trees` first.
        """
        await self._pipes.aclose()

    async def _start(self, order: ServiceOrder, stop: Stop) -> str:
        if order.command is None:
            return f"could not be started: the service {order.name} has no command, and needs containers"
        port = _free_port()
        environment = {**self._environment, **order.environment, **self._marks, "PORT": str(port)}
        tail: deque[bytes] = deque(maxlen=64)  # at most 64 chunks of 64 KiB
        end_of_pipe = await self._pipes.enter_async_context(piped(tail.append))
        try:
            tree = await patiently(partial(self._tree, order.command, environment, end_of_pipe), self._output, stop)
        except OSError as error:
            if shortage(error) is not None:
                raise
            return f"could not be started: {error.strerror}"
        self.trees.append(tree)
        self.addresses |= order.address(LOCALHOST, port)
        reason = await self._until_ready(order, tree, port, environment, stop)
        if reason and not stop.is_set():
            await asyncio.sleep(LOOK_AGAIN_S)  # its last output may not have arrived yet
            self._output(f"the last lines of the service {order.name}:\n".encode())
            self._output(b"\n".join(b"".join(tail).splitlines()[-LINES_SHOWN:]) + b"\n")
        return reason

    async def _until_ready(
        self,
        order: ServiceOrder,
        tree: ProcessTree,
        port: int,
        environment: Mapping[str, str],
        stop: Stop,
    ) -> str:
        deadline = time.monotonic() + order.timeout_s
        while True:
            if stop.is_set():
                return "was stopped"
            if (code := tree.poll()) is not None:
                how = f"ended with {code} before it was ready"
                return f"could not be started: the service {order.name} {how}"
            if await self._is_ready(order, port, environment, stop):
                return ""
            if time.monotonic() > deadline:
                lacks = "its `ready` command failed" if order.ready else f"nothing listens on its $PORT, {port}"
                within = f"was not ready within its time-out of {order.timeout_s:g} s"
                return f"could not be started: the service {order.name} {within}: {lacks}"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_AGAIN_S)

    async def _is_ready(self, order: ServiceOrder, port: int, environment: Mapping[str, str], stop: Stop) -> bool:
        if order.ready is None:
            return await asyncio.to_thread(_listens, port)
        check = self._tree(order.ready, environment, subprocess.DEVNULL)
        try:
            gave_up = await check.wait(time.monotonic() + CHECK_TIMEOUT_S, CHECK_TIMEOUT_S, stop)
            return not gave_up and check.poll() == 0
        finally:
            await uncancelled(check.close())

    def _tree(self, command: str, environment: Mapping[str, str], output: int) -> ProcessTree:
        return ProcessTree(["sh", "-c", command], self._workspace.folder, environment, output, self._grace_s)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOCALHOST, port), timeout=1):
        return True
    return False
