"""Reads the machine's limit that would end Envoy: open files.

Envoy ends itself if it may open no file for a connection. The files that it needs grow with the number of instances,
not with that of apps.
"""

import resource
from dataclasses import dataclass

MOST_VISITORS = 20_000
OWN_FILES = 100  # Envoy's own: some 40, and the admin's connections
UNLIMITED = 1_000_000
NEAR = 0.8


@dataclass(frozen=True)
class FileLimit:
    """Divides the files that Envoy may open. A quarter is for the connections of visitors, another one for Envoy's
    connections to instances on their behalf; half is for health checks, for which Envoy holds one connection to each
    instance.
    """

    files: int

    @property
    def visitors(self) -> int:
        """Returns the number of connections that visitors may have at a time."""
        return min(MOST_VISITORS, self.files // 4)

    @property
    def instances(self) -> int:
        """Returns the number of instances that can be routed."""
        return max(0, self.files // 2 - OWN_FILES)

    def refusal(self, instances: int) -> str | None:
        """Returns why no further app is routed if Envoy already has this number of instances, and what to do; None if
        there is room."""
        if instances < self.instances:
            return None
        return f"Envoy {self._room(instances)}"

    def warning(self, instances: int) -> str | None:
        """Returns a text that says that this number of instances is 80 % of the limit or more, and what to do; else
        None."""
        return f"Envoy {self._room(instances)}" if instances >= NEAR * self.instances else None

    def _room(self, instances: int) -> str:
        return (
            f"may open {self.files} files, enough for {self.instances} instances, and has {instances}: raise the hard "
            "limit of open files (ulimit -Hn; LimitNOFILE of systemd; default-ulimits of Docker) and start the "
            "platform again"
        )


def read_file_limit() -> FileLimit:
    """Returns the limit of this process, which Envoy has too: it raises its soft limit to the hard one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return FileLimit(UNLIMITED if hard == resource.RLIM_INFINITY else min(hard, UNLIMITED))
