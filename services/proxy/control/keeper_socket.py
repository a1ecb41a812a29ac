"""Checks whether the keeper answers, the process from which Envoy gets its endpoints."""

import asyncio
from pathlib import Path

from services.proxy.envoy.bootstrap import KEEPER_SOCKET

ANSWER_S = 1.0


async def keeper_fault(folder: Path) -> str | None:
    """Returns None if the keeper answers on its socket in `folder` (`<home>/envoy`) within 1 s; else a text that says
    why the keeper does not answer and what that means. The check connects and waits for one byte, because a server of
    HTTP/2 sends its settings as soon as a client connects.
    """
    socket = folder / KEEPER_SOCKET
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                await reader.readexactly(1)
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError) as error:
        return (
            f"the keeper does not answer at {socket} ({type(error).__name__}): Envoy serves visitors with the "
            "endpoints that it has, gets no others, and would not start; look at the keeper's log"
        )
    return None
