"""Defines the settings of the deployer."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Holds the settings that only the deployer has, in addition to those that all services share. Durations are in
    seconds.
    """

    watch_s: float = Field(
        10,
        ge=0,
        description="The seconds after going live in which a crash or a failing health check rolls the release back.",
    )
    grace_s: float = Field(
        10, ge=0, description="The seconds that an instance has to end after SIGTERM, before it gets SIGKILL."
    )
    unhealthy_kept_s: float = Field(
        30, gt=0, description="The seconds after which an instance that stays unhealthy is replaced."
    )
    releases_kept: int = Field(
        5,
        ge=1,
        description="The number of last releases per app and environment, and of last ones that were live, whose "
        "artifacts are kept.",
    )
    release_records_kept: int = Field(
        100, ge=10, description="The number of last releases per app and environment whose records are kept."
    )
    memory_limits: Literal["auto", "cgroup", "guard"] = Field(
        "auto",
        description="The means that holds processes to their memory limit: control groups (`cgroup`), a loop that "
        "kills what exceeds it (`guard`), or the first of both that works here (`auto`).",
    )
    capabilities: Literal["few", "none"] = Field(
        "few",
        description="The Linux capabilities of containers whose image starts as root: the few that a server needs to "
        "serve as another user (`few`), or none (`none`). Other containers have none.",
    )
    network: str = Field("slipway", description="The Docker network of the instances, which is made if it is missing.")
    host_cgroups: Path = Field(
        Path("/sys/fs/cgroup"),
        description="The folder of the machine's control groups, to read the usage of containers.",
    )
