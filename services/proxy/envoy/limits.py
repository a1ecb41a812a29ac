"""Reads how many files Envoy may open: a limit of the machine that could end Envoy, which ends itself if it can open no
file for a connection. The more instances there are, the more files Envoy needs; the number of apps does not matter.
"""

import resource
from dataclasses import dataclass

MOST_VISITORS = 20_000
OWN_FILES = 100  # files of Envoy itself: some 40, and the admin's connections
UNLIMITED = 1_000_000
NEAR = 0.8


@dataclass(frozen=True)
class FileLimit:
    """Divides the files that Envoy may open. A quarter is for connections of visitors, another quarter for Envoy's
    connections to instances on their behalf. Half is for health checks, for which Envoy holds one connection to each
    instance.
    """

    files: int

    @property
    def visitors(self) -> int:
        """Returns the number of connections that visitors may have at the same time."""
        return min(MOST_VISITORS, self.files // 4)

    @property
    def instances(self) -> int:
        """Returns the number of instances to which Envoy can route."""
        return max(0, self.files // 2 - OWN_FILES)

    def refusal(self, instances: int) -> str | None:
        """Returns the reason, with the remedy, why no further app gets a route when Envoy already has `instances`
        instances; None if there is room.
        """
        if instances < self.instances:
            return None
        return f"Envoy {self._room(instances)}"

    def warning(self, instances: int) -> str | None:
        """Returns a warning, with the remedy, if `instances` is 80 % or more of the number of instances to which Envoy
        can route; else None.
        """
        return f"Envoy {self._room(instances)}" if instances >= NEAR * self.instances else None

    def _room(self, instances: int) -> str:
        return (
            f"may open {self.files} files, enough for {self.instances} instances, and has {instances}: raise the hard "
            "limit of open files (ulimit -Hn; LimitNOFILE of systemd; default-ulimits of Docker) and start the "
            "platform again"
        )


def read_file_limit() -> FileLimit:
    """Returns this process's limit of open files. Envoy has the same one, since it raises its soft limit to the hard
    limit.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return FileLimit(UNLIMITED if hard == resource.RLIM_INFINITY else min(hard, UNLIMITED))
