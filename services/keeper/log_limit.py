"""Keeps Envoy's access log short while the proxy service, which otherwise does this, is down."""

import asyncio
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

LOGS = "access.log*"
LONGEST = 128 * 2**20
EVERY_S = 10.0


async def keep_short(folder: Path, longest: int = LONGEST) -> None:
    """Empties, every 10 s until it is cancelled, Envoy's access logs in `folder` of more than `longest` bytes."""
    while True:
        shorten(folder, longest)
        await asyncio.sleep(EVERY_S)


def shorten(folder: Path, longest: int = LONGEST) -> None:
    """Empties each of Envoy's access logs in `folder` that has more than `longest` bytes. Envoy then writes on at the
    beginning of the file, because it has opened the file for appending.
    """
    for path in folder.glob(LOGS):
        try:
            if path.stat().st_size > longest:
                os.truncate(path, 0)
                log.warning("%s was emptied, since nothing reads it; is the proxy service down?", path)
        except OSError:
            log.exception("%s cannot be emptied", path)
