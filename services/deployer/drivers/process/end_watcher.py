"""Notices when instances end, through the event loop, including instances that an earlier deployer started."""

import asyncio
import contextlib
import errno
import logging
import os
import resource
from collections.abc import Callable, Iterator

from services.deployer.drivers.process.record import ProcessRecord

log = logging.getLogger(__name__)


class EndWatcher:
    """Watches the first process of each instance by a pidfd (Linux 5.3), a file descriptor that becomes readable when
    that process ends. Watches at most `most` instances; for None, half as many as this process may open files. Its
    methods must run in the event loop.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 if most is None else most
        self._on_end: Callable[[str], None] | None = None
        self._pidfds: dict[str, int] = {}
        self._was_refused = False

    @contextlib.contextmanager
    def watching(self, on_end: Callable[[str], None]) -> Iterator[None]:
        """Calls `on_end` with the id of each watched instance that ends, until the context is left."""
        self._on_end = on_end
        try:
            yield
        finally:
            self._on_end = None
            for instance_id in list(self._pidfds):
                self._forget(instance_id)

    def watch(self, record: ProcessRecord) -> None:
        """Watches the running instance from now on; if it has ended already, reports that at once. Idempotent. If the
        system gives no pidfd, logs that once and does not watch; the end is then found by the deployer's probes.
        """
        if self._on_end is None or record.id in self._pidfds or record.pid is None:
            return
        try:
            pidfd = self._opened(record.pid)
        except ProcessLookupError:
            self._on_end(record.id)
        except OSError as error:
            if not self._was_refused:
                log.warning("the end of %s can only be found by its probes: %s", record.id, error.strerror)
            self._was_refused = True
        else:
            self._pidfds[record.id] = pidfd
            asyncio.get_running_loop().add_reader(pidfd, self._ended, record.id)
            if not record.runs():  # it has ended, or the pid belongs to another process by now
                self._ended(record.id)

    def _opened(self, pid: int) -> int:
        if len(self._pidfds) >= self._most:
            raise OSError(
                errno.EMFILE, f"{self._most} ends are watched already; raise the limit of open files (ulimit -n)"
            )
        return os.pidfd_open(pid)

    def _ended(self, instance_id: str) -> None:
        self._forget(instance_id)
        if self._on_end is not None:
            self._on_end(instance_id)

    def _forget(self, instance_id: str) -> None:
        pidfd = self._pidfds.pop(instance_id)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
