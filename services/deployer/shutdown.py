"""Ends the instances of all apps when the whole platform stops, so that the next deployer does not take their ends for
crashes. If the deployer runs in a container, `python -m services.deployer.shutdown` does this.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from services.deployer.drivers.process.end import stop_instances
from shared.clock import now
from shared.config import SharedSettings

NAME = "stopped"  # file in the home: time at which the platform was last stopped
GRACE_S = 10


def end_instances(settings: SharedSettings, environment: Mapping[str, str], timeout_s: float) -> int:
    """Ends every instance of every app; call it after the deployer has ended. Sends SIGTERM, and after `timeout_s`
    seconds SIGKILL to those that still run. `environment` names the Docker Engine (`DOCKER_HOST` and similar
    variables), if instances are containers. Returns the number of instances that were running. Raises DriverError if
    that engine refuses or does not answer.
    """
    return ENDS[settings.driver](settings, environment, timeout_s)


def _end_processes(settings: SharedSettings, _: Mapping[str, str], timeout_s: float) -> int:
    return stop_instances(settings.home, timeout_s)


def _end_containers(settings: SharedSettings, environment: Mapping[str, str], timeout_s: float) -> int:
    """Stops the containers of all instances, and writes the current time to the file `stopped` in the platform's data
    folder. Returns the number of containers that were running.
    """
    from services.deployer.drivers.docker.container import Stack
    from services.deployer.drivers.docker.end import stop_containers  # needs Docker's package

    ran = stop_containers(Stack(settings.stack_id(), ""), environment, timeout_s)
    (settings.home / NAME).write_text(now().isoformat())
    return ran


ENDS = {"process": _end_processes, "docker": _end_containers}


def ended_at(home: Path) -> datetime | None:
    """Returns the time of the platform's last stop; None if none is recorded."""
    try:
        return datetime.fromisoformat((home / NAME).read_text())
    except (FileNotFoundError, ValueError):
        return None


if __name__ == "__main__":
    end_instances(SharedSettings(), os.environ, GRACE_S)
