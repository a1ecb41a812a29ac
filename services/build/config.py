"""Settings of the build service."""

from pathlib import Path

from pydantic import Field

from shared.config import SharedSettings
from shared.models import Environment


class Settings(SharedSettings):
    """`SLIPWAY_BUILD_CONCURRENCY`: how many builds run steps at a time (not counting those that deploy).
    `SLIPWAY_BUILD_LIMIT_S`: how long one may take until what passed is sealed.
    `SLIPWAY_BUILD_FILES`: files and folders that a commit may hold; `SLIPWAY_BUILD_CHECKOUT_MB`: what it may unpack to;
    `SLIPWAY_BUILD_PUSH_MB`: what one push may carry.
    `SLIPWAY_BUILD_STEPS`: how many steps of one build run at a time, where its manifest allows that.
    `SLIPWAY_BUILD_LOOPBACK_SOURCES`: for tests only; a source may be http:// on a loopback address.
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
        """A build's checkout is `<app>/<build>/` in it, and stays there as the artifact if it passes."""
        return self.home / "releases"

    @property
    def build_logs(self) -> Path:
        return self.home / "logs" / "builds"

    @property
    def build_reports(self) -> Path:
        """What the reports of builds said."""
        return self.home / "reports"

    @property
    def caches(self) -> Path:
        """What steps of an app keep from build to build: `<app>/pip`, `<app>/npm`."""
        return self.home / "cache"

    @property
    def hooks(self) -> Path:
        return self.home / "hooks"

    @property
    def push_socket(self) -> Path:
        """Where the hook of a repository tells of a push."""
        return self.home / "build.sock"

    def app_urls(self, app: str, environment: Environment) -> list[str]:
        """Where visitors find an app: the split, and the environment by itself."""
        own_port = self.production_port if environment is Environment.PRODUCTION else self.canary_port
        return [f"http://{app}.{self.domain}:{port}/" for port in (self.public_port, own_port)]
