"""Settings of the build service."""

from pathlib import Path

from pydantic import Field

from shared.config import SharedSettings
from shared.models import Environment


class Settings(SharedSettings):
    """`SLIPWAY_BUILD_CONCURRENCY`: how many builds run steps at a time (not counting those that deploy).
    `SLIPWAY_BUILD_STEPS`: how many steps of one build run at a time, where its manifest allows that.
    `SLIPWAY_BUILD_LOOPBACK_SOURCES`: for tests only; a source may be http:// on a loopback address.
    """

    build_concurrency: int = Field(2, ge=1)
    build_steps: int = Field(2, ge=1)
    build_loopback_sources: bool = False

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
