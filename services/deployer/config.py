"""Defines the settings of the deployer."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Settings of the deployer in addition to the shared ones. Durations are in seconds; the defaults are Kamal's,
    except for the watch after going live.
    """

    ready_deadline_s: float = Field(30, gt=0, description="A new instance must be ready within this time.")
    watch_s: float = Field(10, ge=0, description="After going live, a crash or failing health rolls back by itself.")
    grace_s: float = Field(10, ge=0, description="From SIGTERM to SIGKILL.")
    unhealthy_kept_s: float = Field(30, gt=0, description="An instance unhealthy for longer is replaced.")
    releases_kept: int = Field(5, ge=1, description="Per app and environment, with their artifacts.")
    memory_limits: Literal["auto", "cgroup", "guard"] = Field(
        "auto", description="What holds processes to their memory: control groups, a guard, or the first that works."
    )
    network: str = Field("slipway", description="The Docker network of the instances; made if it is missing.")
    host_cgroups: Path = Field(
        Path("/sys/fs/cgroup"), description="The machine's control groups, read for what containers use."
    )
