"""TCP ports of this machine for the parts that a test starts."""

import contextlib
import itertools
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw4").removeprefix("gw")
OWN = range(4_000 + int(WORKER) % 5 * 1_200, 5_200 + int(WORKER) % 5 * 1_200)
_next = itertools.cycle(random.sample(OWN, len(OWN)))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has at this moment, and that no other worker, stack or outgoing connection
    takes before it is used.
    """
    for port in itertools.islice(_next, len(OWN)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no TCP port from {OWN[0]} to {OWN[-1]} is free")


def wait_for_port(port: int, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def listener(port: int, *words: str) -> Iterator[int]:
    """A process that listens on the port, with these words in its command line; its id."""
    script = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", script, *words])
    try:
        wait_for_port(port)
        yield process.pid
    finally:
        process.kill()
        process.wait()
