"""Defines the settings of the deployer."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Settings of the deployer in addition to the shared ones. Durations are in seconds; the defaults are Kamal's,
    except for the watch after going live.
    """

    ready_deadline_s: float = Field(30, gt=0, description="Time within which a new instance must become ready.")
    watch_s: float = Field(10, ge=0, description="Time after going live in which a failure rolls the release back.")
    grace_s: float = Field(10, ge=0, description="Time from SIGTERM to SIGKILL when an instance is stopped.")
    unhealthy_kept_s: float = Field(30, gt=0, description="Time after which an unhealthy instance is replaced.")
    releases_kept: int = Field(5, ge=1, description="Releases kept for each app and environment, with their artifacts.")
    memory_limits: Literal["auto", "cgroup", "guard"] = Field(
        "auto", description="Enforces processes' memory limits: control groups, a guard, or the first that works."
    )
    network: str = Field("slipway", description="Docker network of the instances; created if it is missing.")
    host_cgroups: Path = Field(
        Path("/sys/fs/cgroup"), description="The machine's control groups, read for the use of containers."
    )
