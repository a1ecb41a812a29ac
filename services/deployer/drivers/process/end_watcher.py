"""Hears the ends of processes in the event loop, also of those that an earlier deployer started."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator

from services.deployer.drivers.process.record import ProcessRecord

log = logging.getLogger(__name__)


class EndWatcher:
    """Holds a pidfd (Linux 5.3) of the leader of each watched instance, which becomes readable at the leader's end.
    Methods run in the event loop.
    """

    def __init__(self) -> None:
        self._on_end: Callable[[str], None] | None = None
        self._pidfds: dict[str, int] = {}
        self._was_refused = False

    @contextlib.contextmanager
    def watching(self, on_end: Callable[[str], None]) -> Iterator[None]:
        """Calls `on_end` with the id of each instance that ends, until the context is left."""
        self._on_end = on_end
        try:
            yield
        finally:
            self._on_end = None
            for instance_id in list(self._pidfds):
                self._forget(instance_id)

    def watch(self, record: ProcessRecord) -> None:
        """Watches the running instance from now on, at once reports one that has ended meanwhile. Idempotent. Without
        another descriptor, which it logs once, an end shows only by the deployer's probes and seldom looks.
        """
        if self._on_end is None or record.id in self._pidfds or record.pid is None:
            return
        try:
            self._pidfds[record.id] = os.pidfd_open(record.pid)
        except ProcessLookupError:
            self._on_end(record.id)
        except OSError as error:
            if not self._was_refused:
                log.warning("the end of %s will be found late: no pidfd can be opened: %s", record.id, error.strerror)
            self._was_refused = True
        else:
            asyncio.get_running_loop().add_reader(self._pidfds[record.id], self._ended, record.id)
            if not record.runs():  # or the pid is another process's by now
                self._ended(record.id)

    def _ended(self, instance_id: str) -> None:
        self._forget(instance_id)
        if self._on_end is not None:
            self._on_end(instance_id)

    def _forget(self, instance_id: str) -> None:
        pidfd = self._pidfds.pop(instance_id)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
