"""Defines the settings of the build service."""

from pathlib import Path

from pydantic import Field

from shared.config import SharedSettings
from shared.models import Environment


class Settings(SharedSettings):
    """Holds the settings, read from environment variables `SLIPWAY_*`.

    `SLIPWAY_BUILD_CONCURRENCY`: number of builds that run steps at a time (builds in their deploy stage do not count).
    `SLIPWAY_BUILD_LIMIT_S`: seconds from the start of a build until its artifact is sealed. `SLIPWAY_BUILD_FILES`:
    number of files and folders that a commit may hold. `SLIPWAY_BUILD_CHECKOUT_MB`: unpacked size of a commit, in MiB.
    `SLIPWAY_BUILD_PUSH_MB`: size of one push, in MiB. `SLIPWAY_BUILD_STEPS`: number of steps of one build that run at a
    time, where its manifest allows that. `SLIPWAY_BUILD_LOOPBACK_SOURCES`: allows http:// sources on a loopback
    address, for tests only.
    """

    build_concurrency: int = Field(2, ge=1)
    build_limit_s: float = Field(7200.0, gt=0)
    build_files: int = Field(50_000, ge=1)
    build_checkout_mb: int = Field(512, ge=1)
    build_push_mb: int = Field(512, ge=1)
    build_steps: int = Field(2, ge=1)
    build_loopback_sources: bool = False
    build_keep_days: int = Field(90, ge=1, description="Logs of builds and details of their reports.")
    build_keep_logs: int = Field(20, ge=1, description="Last builds of a branch whose logs stay, however old.")
    build_keep_artifacts: int = Field(10, ge=1, description="Of the last builds that passed, per app.")
    build_keep_records: int = Field(1000, ge=100, description="Builds of an app that are known at all.")

    @property
    def repositories(self) -> Path:
        return self.home / "repositories"

    @property
    def build_releases(self) -> Path:
        """Returns the folder of checkouts. A build's is `<app>/<build>/`; it is the artifact if the build passes."""
        return self.home / "releases"

    @property
    def build_logs(self) -> Path:
        return self.home / "logs" / "builds"

    @property
    def build_reports(self) -> Path:
        """Returns the folder of the reports' records."""
        return self.home / "reports"

    @property
    def caches(self) -> Path:
        """Returns the folder of caches, which steps of an app keep from build to build: `<app>/pip`, `<app>/npm`."""
        return self.home / "cache"

    @property
    def hooks(self) -> Path:
        return self.home / "hooks"

    @property
    def push_socket(self) -> Path:
        """Returns the path of the socket at which the hooks of a repository report a push."""
        return self.home / "build.sock"

    def app_urls(self, app: str, environment: Environment) -> list[str]:
        """Returns the URLs of an app: the split between environments, and the environment by itself."""
        own_port = self.production_port if environment is Environment.PRODUCTION else self.canary_port
        return [f"http://{app}.{self.domain}:{port}/" for port in (self.public_port, own_port)]
