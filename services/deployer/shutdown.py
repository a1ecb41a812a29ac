"""The end of the whole platform: its app instances end with it, and the next deployer counts that against none.

`python -m services.deployer.shutdown` does it where the deployer runs in a container.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from services.deployer.drivers.process.end import stop_instances
from shared.clock import now
from shared.config import SharedSettings

NAME = "stopped"  # in the home: when the platform was stopped last
GRACE_S = 10


def end_instances(settings: SharedSettings, environment: Mapping[str, str], timeout_s: float) -> int:
    """For the launcher, when the deployer has ended: SIGTERM to every instance, SIGKILL after `timeout_s` seconds;
    returns how many ran. Raises DriverError if the engine does not answer.
    """
    if settings.driver == "process":
        return stop_instances(settings.home, timeout_s)
    from services.deployer.drivers.docker.container import Stack
    from services.deployer.drivers.docker.end import stop_containers  # needs a package that processes do without

    ran = stop_containers(Stack(settings.stack_id(), ""), environment, timeout_s)
    (settings.home / NAME).write_text(now().isoformat())
    return ran


def ended_at(home: Path) -> datetime | None:
    """When the platform was stopped last; None if it never was, or nobody noted it."""
    try:
        return datetime.fromisoformat((home / NAME).read_text())
    except (FileNotFoundError, ValueError):
        return None


if __name__ == "__main__":
    end_instances(SharedSettings(), os.environ, GRACE_S)
