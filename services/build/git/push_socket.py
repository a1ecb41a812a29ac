"""Connects git's hooks with the service by a unix socket: a hook reports a push, and gets text that it prints for the
pusher.
"""

import asyncio
import contextlib
import logging
import os
import shlex
import shutil
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.build.git.hooks import receive
from services.build.git.hooks.receive import COMPLETE, REFUSED
from services.build.git.repository import GATED

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IncomingPush:
    """Describes a push that git has not accepted yet."""

    app: str
    id: str
    """Id that the service gave the push's HTTP request."""
    objects: str
    """git's quarantine object directory with the new objects; empty without new objects."""
    updates: Sequence[str]
    """Lines `old new ref`: commit before, commit after, full name of the ref."""


class PushRefused(Exception):
    """Reports why a push is not accepted, with the remedy, for the pusher."""


ReportPush = Callable[[str, Sequence[str]], AsyncGenerator[bytes, None]]
JudgePush = Callable[[IncomingPush], AsyncGenerator[bytes, None]]


def install_hooks(folder: Path) -> None:
    """Writes the hooks `pre-receive` and `post-receive` to `folder`, for git's setting `core.hooksPath`. They run a
    copy of `hooks/receive.py`, so that their command line does not contain the name of this package; otherwise a
    `pkill` by that name, meant for the service, would end them too. In a repository without a pre-receive gate,
    `pre-receive` accepts everything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "receive.py"
    shutil.copyfile(receive.__file__, script)
    command = shlex.join([sys.executable, "-S", "-E", str(script)])
    for name, first in (("pre-receive", f"test -e {GATED} || exit 0\n"), ("post-receive", "")):
        hook = folder / name
        hook.write_text(f"#!/bin/sh\n{first}exec {command} {name}\n")
        hook.chmod(0o755)


class PushSocket:
    """Listens on the unix socket for git's hooks. A hook sends its report and gets the text that `judge` (for
    pre-receive) or `report` (for post-receive) yields. The last byte of the answer is REFUSED if `judge` raises
    PushRefused, else COMPLETE.
    """

    def __init__(self, path: Path, report: ReportPush, judge: JudgePush) -> None:
        self._path = path
        # A unix socket's address holds about 100 bytes; the relative path may be the shorter one.
        self._address = min(str(path), os.path.relpath(path), key=len)
        self._report = report
        self._judge = judge

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
        last = COMPLETE
        try:
            hook, app, push, objects, *updates = (await reader.read()).decode(errors="surrogateescape").splitlines()
            before = hook == "pre-receive"
            answering = self._judge(IncomingPush(app, push, objects, updates)) if before else self._report(app, updates)
            try:
                async with contextlib.aclosing(answering) as answer:
                    async for data in answer:
                        writer.write(data.translate(None, COMPLETE + REFUSED))
                        await writer.drain()
            except PushRefused as refused:
                writer.write(f"{refused}\n".encode())
                last = REFUSED
            writer.write(last)
            await writer.drain()
        except ConnectionError:
            pass  # the pusher has disconnected; a build of an accepted push goes on
        except Exception:
            log.exception("answering a push failed")  # the hook then tells the pusher what that means
        finally:
            writer.close()
