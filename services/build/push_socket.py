"""Where the hook of a repository tells of a push, and hears how its builds go: a unix socket in the home."""

import asyncio
import contextlib
import logging
import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from services.build.hooks import post_receive

log = logging.getLogger(__name__)

LARGEST_PUSH_BYTES = 2**20
HEARD_TO_THE_END = b"\0"
Tell = Callable[[str, Sequence[str]], AsyncIterator[bytes]]


def install_hook(folder: Path) -> None:
    """Writes `post-receive` to `folder`, for `core.hooksPath`. The copy keeps this package's name out of the command
    line: whoever ends the service by its name must not end hooks."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "post_receive.py"
    shutil.copyfile(post_receive.__file__, script)
    command = shlex.join([sys.executable, "-S", "-E", str(script)])
    hook = folder / "post-receive"
    hook.write_text(f"#!/bin/sh\nexec {command}\n")
    hook.chmod(0o755)


class PushSocket:
    """Each connection: the app's name and git's lines `old new ref` in; then what `tell` yields, and a NUL, out."""

    def __init__(self, path: Path, tell: Tell) -> None:
        self._path = path
        # A unix socket's address holds about 100 bytes; the way from here may be the shorter one.
        self._address = min(str(path), os.path.relpath(path), key=len)
        self._tell = tell

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        self._path.unlink(missing_ok=True)
        previous = os.umask(0o177)  # mode 0600 from the first moment
        try:
            server = await asyncio.start_unix_server(self._serve, self._address)
        finally:
            os.umask(previous)
        try:
            yield
        finally:
            server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            text = (await reader.read(LARGEST_PUSH_BYTES)).decode()
            app, *updates = text.splitlines()
            async for data in self._tell(app, updates):
                writer.write(data)
                await writer.drain()
            writer.write(HEARD_TO_THE_END)
            await writer.drain()
        except ConnectionError:
            pass  # the pusher has gone; the build goes on
        except Exception:
            log.exception("telling a pusher failed")  # the hook then says that the push is kept
        finally:
            writer.close()
