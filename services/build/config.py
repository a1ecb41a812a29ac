"""Defines the settings of the build service."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from shared.config import SharedSettings
from shared.models import Environment


class Settings(SharedSettings):
    """Holds the settings of the build service, which the environment variables `SLIPWAY_*` set."""

    build_concurrency: int = Field(
        2, ge=1, description="The number of builds that run steps at the same time. Builds that deploy do not count."
    )
    build_limit_s: float = Field(
        7200.0, gt=0, description="The time in seconds that a build may take until its artifact is complete."
    )
    build_files: int = Field(50_000, ge=1, description="The number of files and folders that a commit may hold.")
    build_checkout_mb: int = Field(512, ge=1, description="The size in MiB that a commit may unpack to.")
    build_push_mb: int = Field(512, ge=1, description="The size in MiB that one push may carry.")
    build_steps: int = Field(
        2, ge=1, description="The number of steps of one build that run at the same time, where the manifest allows it."
    )
    pull: Literal["missing", "daily", "always"] = Field(
        "missing",
        description="When the images that apps' Dockerfiles start from are pulled again, so that security updates "
        "arrive: never, once in 24 hours, or at every build. Those that are missing are always pulled.",
    )
    build_keep_days: int = Field(
        90, ge=1, description="The number of days for which logs of builds and the details of their reports are kept."
    )
    build_keep_logs: int = Field(
        20, ge=1, description="The number of last builds of a branch whose logs are kept longer."
    )
    build_keep_artifacts: int = Field(
        10, ge=1, description="The number of last builds of an app that passed whose artifacts are kept."
    )
    build_keep_records: int = Field(
        1000, ge=100, description="The number of last builds of an app whose records are kept."
    )

    @property
    def repositories(self) -> Path:
        return self.home / "repositories"

    @property
    def build_releases(self) -> Path:
        """Returns the folder of the builds' checkouts, `<app>/<build>/`. Where steps run as processes, the checkout of
        a build that passes becomes its artifact.
        """
        return self.home / "releases"

    @property
    def build_logs(self) -> Path:
        return self.home / "logs" / "builds"

    @property
    def build_reports(self) -> Path:
        """Returns the folder of the parsed reports of tests, coverage and analysis, one file for each build."""
        return self.home / "reports"

    @property
    def hooks(self) -> Path:
        return self.home / "hooks"

    @property
    def push_socket(self) -> Path:
        """Returns the path of the unix socket at which git's hooks report a push."""
        return self.home / "build.sock"

    def app_urls(self, app: str, environment: Environment) -> list[str]:
        """Returns two URLs of the app: one at the public port, where Envoy splits visitors between production and
        canary, and one at the port that serves `environment` alone.
        """
        own_port = self.production_port if environment is Environment.PRODUCTION else self.canary_port
        return [f"http://{app}.{self.domain}:{port}/" for port in (self.public_port, own_port)]
