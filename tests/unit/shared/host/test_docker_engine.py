"""A Docker Engine that does not answer is reported in time, with the reason and the remedy."""

import threading
import time

import pytest

from shared.host.docker_engine import ASKED_S, engine_check

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (PermissionError(13, "Permission denied"), "DOCKER_GID"),
        (FileNotFoundError(2, "No such file or directory"), "start it"),
        (ConnectionRefusedError(111, "Connection refused"), "DOCKER_HOST"),
    ],
)
async def test_the_remedy_is_said(error: OSError, remedy: str) -> None:
    def ask() -> None:
        raise error

    assert remedy in (await engine_check(ask) or "")


async def test_it_is_well_again_by_itself() -> None:
    answers = iter([OSError("no"), None])

    def ask() -> None:
        if (answer := next(answers)) is not None:
            raise answer

    assert await engine_check(ask) is not None
    assert await engine_check(ask) is None


@pytest.mark.slow
async def test_an_engine_that_hangs_is_not_waited_for() -> None:
    gone = threading.Event()
    begun = time.monotonic()
    assert "does not answer" in (await engine_check(lambda: gone.wait(30)) or "")
    assert ASKED_S < time.monotonic() - begun < 10
    gone.set()
